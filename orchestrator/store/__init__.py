"""The runs folder: the only place where results are, and everything that is read from it or written to it."""
