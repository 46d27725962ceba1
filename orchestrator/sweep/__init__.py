"""The driver: what runs next, where, and what follows from its end."""
