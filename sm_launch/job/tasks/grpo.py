"""Prompts, which the model answers itself."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import PROMPT, Declaration

TASK = Declaration("prompts", (PROMPT,))
