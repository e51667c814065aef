"""An estimate with what this machine can find out of the model and of prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sm_launch.job import million
from sm_launch.job.estimate import Described, Estimate
from sm_launch.job.estimate import estimate as estimated
from sm_launch.job.instances import Prices
from sm_launch.target.base_config import describe
from sm_launch.target.context import JobContext


@dataclass(frozen=True)
class Asked:
    """What an estimate is asked for in place of job.yaml's own.

    Attributes:
        model: a base model.
        method: a training method.
        instance_type: of the training.
        parameters: size of the model, where neither its files nor its name tell.
    """

    model: str | None = None
    method: str | None = None
    instance_type: str | None = None
    parameters: float | None = None

    @property
    def overrides(self) -> tuple[str, ...]:
        """As `--set` takes them."""
        given = {
            "training.model": self.model,
            "training.method": self.method,
            "training.instances.type": self.instance_type,
        }
        return tuple(f"{key}={value}" for key, value in given.items() if value)

    @property
    def needs_job(self) -> bool:
        """Whether job.yaml alone says what the model is."""
        return self.model is None and self.parameters is None


def estimate(
    context: JobContext, parameters: float | None = None, hosted_on: Sequence[str] = ()
) -> Estimate:
    """Memory, instance type and price of a job's training.

    Where `sm-launch evaluate --load` has measured requests a second, also what a million cost.

    Args:
        context: the job.
        parameters: size of the model, where neither its files nor its name tell.
        hosted_on: instance types to price a million requests on; default: job.yaml's.

    Raises:
        UserInputError: the size is unknown, or the price of a type in `hosted_on`.
    """
    config = context.config
    prices = context.prices_of(config)
    million.require_prices(hosted_on, prices)
    described = describe(context) if config.training.model else Described()
    return replace(
        estimated(config, prices, parameters, described),
        million=tuple(_million(context, hosted_on, prices)),
    )


def _million(context: JobContext, hosted_on: Sequence[str], prices: Prices) -> list[str]:
    rate = million.measured_rate(context.config)
    if rate is None and context.any_job and not hosted_on:
        return []  # nothing was deployed, and nobody asks
    types = hosted_on or million.load_types(context.config)
    return million.million_lines(rate, types, prices)
