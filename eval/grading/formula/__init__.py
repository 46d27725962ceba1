"""Formulas: from text to tokens to a tree, and from a tree to values with proved bounds."""
