"""What an experiment file says: YAML and command line to typed, checked blocks."""
