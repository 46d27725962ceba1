"""Models by path: found, fetched, built."""
