"""In verl's own processes: our step, loss, selection and rewards in its trainer and workers."""
