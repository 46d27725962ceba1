"""Trainers and the science they share: selection, objective, advantages, distribution statistics."""
