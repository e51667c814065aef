"""Answers that are preferred to others, for a model that scores them."""

from __future__ import annotations

from sm_launch.job.tasks.declaration import PREFERENCE, Declaration

TASK = Declaration("preferences", (PREFERENCE,), evaluation="reward")
