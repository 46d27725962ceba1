"""Group-sequential designs: looks at a difference after every seed."""
