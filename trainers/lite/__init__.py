"""The embedded trainer: one process, one device (CPU or one GPU), Hugging Face transformers, no Ray."""
