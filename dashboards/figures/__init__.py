"""Figures drawn from scores and records."""
