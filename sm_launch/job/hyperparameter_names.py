"""Hyperparameters that the training toolkit reads itself."""

from __future__ import annotations

PROGRAM = "sagemaker_program"
"""A job with it runs a script of the user's, which knows its own hyperparameters."""
SUBMIT_DIRECTORY = "sagemaker_submit_directory"
"""Where that script lies: a directory in the container, or an archive on S3."""
