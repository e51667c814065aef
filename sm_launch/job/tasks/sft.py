"""Conversations, prompts with their completions, or plain texts."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import ANSWERED, MESSAGES, TEXT, Declaration

TASK = Declaration("answers", (MESSAGES, ANSWERED, TEXT))
