"""What a plan costs: seconds, GPU-hours and disk of each trial, from the model's shape or from measured runs."""
