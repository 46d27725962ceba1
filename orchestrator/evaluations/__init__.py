"""What `orch eval` and `orch compare` are pointed at, and where its scores are kept."""
