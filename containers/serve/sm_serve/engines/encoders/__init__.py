"""Encoders: one file a task over `base`, in batches without padding."""
