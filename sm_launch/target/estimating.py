"""An estimate with what this machine can find out of the model and of prices."""

from __future__ import annotations

from sm_launch.job.estimate import Described, Estimate
from sm_launch.job.estimate import estimate as estimated
from sm_launch.target.base_config import describe
from sm_launch.target.context import JobContext


def estimate(context: JobContext, parameters: float | None = None) -> Estimate:
    """Memory, instance type and price of a job's training.

    Args:
        context: the job.
        parameters: size of the model, where neither its files nor its name tell.

    Raises:
        UserInputError: the size is unknown.
    """
    described = describe(context) if context.config.training.model else Described()
    return estimated(context.config, context.prices_of(context.config), parameters, described)
