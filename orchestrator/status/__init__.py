"""Where trials, sweeps and machines stand, for people and for the driver."""
