"""MLflow as a mirror of the store: what should be there (view, points), what is sent (sync), and when (mirror)."""
