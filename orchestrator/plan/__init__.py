"""Which trials an experiment asks for, and the identity of each."""
