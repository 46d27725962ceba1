"""Graders by name: ours, and others whose verdicts can be put beside it on the same samples, for a paper's columns.

    registry.open_grader("qwen").grade_many([(response, problem), …]) -> list[Grade]

Rewards are never given by another grader than ours. A grade carries the version of its grader, which begins with the
name of any other: no table averages or compares verdicts of two.
"""
