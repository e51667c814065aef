"""LoRA adapters of a loaded model: their files, weights and heads, and whom they serve."""
