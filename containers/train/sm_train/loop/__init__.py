"""The training loop: what is learnt, callbacks, checkpoints, resuming, memory."""
