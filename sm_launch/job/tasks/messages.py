"""Rows of sft: conversations."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import MESSAGES, Declaration

TASK = Declaration("answers", (MESSAGES,))
