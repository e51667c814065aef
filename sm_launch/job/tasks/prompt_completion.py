"""Rows of sft: prompts with their completions."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ANSWERED, Declaration

TASK = Declaration("answers", (ANSWERED,))
