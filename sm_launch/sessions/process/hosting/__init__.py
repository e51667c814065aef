"""Models, endpoints and transforms: what `serve` runs, and its requests."""
