"""Rows of sft: plain texts."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import TEXT, Declaration

TASK = Declaration("answers", (TEXT,), one_text=True)
