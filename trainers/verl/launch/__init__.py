"""Outside of verl: its command line, its processes' birth, their watch and their end."""
