"""Training and tuning jobs: what `train` runs."""
