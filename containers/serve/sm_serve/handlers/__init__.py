"""From a request's values to those of its answer: engine, OpenAI's API, user's script, members."""
