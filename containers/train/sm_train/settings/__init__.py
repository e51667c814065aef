"""Hyperparameters as types: what may be set, how text is decoded, what contradicts."""
