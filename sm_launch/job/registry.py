"""The `registry` section of job.yaml: where a model that is good enough is put down."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from sm_launch.job import limits
from sm_launch.job.section import Section

Approval = Literal["pending", "approved", "rejected"]


class Registry(Section):
    """SageMaker Model Registry: `sm-launch register`, `deploy --registered`, `pipeline`."""

    group: Annotated[str, AfterValidator(limits.require_name)] | None = None
    """Model package group; default: name."""
    approval: Approval = "pending"
    """Status that a newly registered model gets; only an approved one is deployed."""
