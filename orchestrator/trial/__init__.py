"""One attempt at one trial, in a process of its own."""
