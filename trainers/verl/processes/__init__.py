"""The tree of an attempt's processes: its keeper, its nodes, its forks."""
