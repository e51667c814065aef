"""Tokenizer, template and model; rows as the model gets them."""
