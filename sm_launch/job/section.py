"""What every part of job.yaml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of job.yaml: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
