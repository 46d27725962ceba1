"""What a plan will cost on a cluster, before anything runs."""
