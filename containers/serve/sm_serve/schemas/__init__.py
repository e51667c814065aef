"""Wire formats: pure functions between HTTP bodies and engine requests."""
