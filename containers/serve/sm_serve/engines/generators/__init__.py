"""Language models: the continuous engine, one request at a time, vLLM."""
