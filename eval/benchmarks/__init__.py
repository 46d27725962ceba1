"""Benchmarks and training sets: what each is, where it comes from, and how its rows become `Problem`s."""
