"""Experiment files to plans, plans to trials, trials to records."""
