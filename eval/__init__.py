"""Benchmarks, sampling engines, grading and statistics. Imports nothing of orch's other packages."""
