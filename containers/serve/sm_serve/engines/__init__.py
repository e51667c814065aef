"""Engines: what computes an answer. See `protocol` for what one must offer."""
