"""What a million requests cost, at requests a second that were measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.job.instances import Prices


@dataclass(frozen=True)
class Rate:
    """Requests a second that an evaluation measured, and what it measured them on, in words."""

    requests_per_s: float
    measured_on: str


def measured_rate(config: JobConfig) -> Rate | None:
    """What `sm-launch evaluate --load` last wrote into the job's report; None where it did not."""
    path = config.work_path / "report" / "evaluation.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rate = float(document["load"]["best"]["requests_per_s"])
        run = document["run"]
        place = f"{run['endpoint']} ({run['target']}), {document['started_at'][:10]}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Rate(rate, place)


def load_types(config: JobConfig) -> list[str]:
    """The instance types that job.yaml asks a million requests' price of."""
    return config.evaluation.load.instance_types or config.endpoint.instance_types


def million_dollars(requests_per_s: float, dollars_an_hour: float) -> float:
    """What a million requests cost at full load."""
    return dollars_an_hour * 1e6 / (3600 * requests_per_s)


def million_lines(rate: Rate | None, types: Sequence[str], prices: Prices) -> list[str]:
    """What a million requests cost on each instance type, at a rate that was measured."""
    if rate is None:
        return [
            "a million requests: not known before `sm-launch evaluate --load` has measured "
            "requests a second"
        ]
    lines = []
    for kind in types:
        hourly = prices.hosting.get(kind)
        if hourly is None:
            lines.append(f"a million requests on {kind}: no price is known ({prices})")
            continue
        dollars = million_dollars(rate.requests_per_s, hourly)
        lines.append(
            f"a million requests on {kind}: ${dollars:.2f} (${hourly:.3f}/h at "
            f"{rate.requests_per_s:.1f} requests/s as measured on {rate.measured_on}, all hours "
            "full)"
        )
    return lines


def require_prices(types: Sequence[str], prices: Prices) -> None:
    """Raise UserInputError for an instance type that was asked for and has no known price."""
    for kind in types:
        if kind not in prices.hosting:
            raise UserInputError(
                f"is not in the table of prices ({prices})",
                field="--hosted-on",
                value=kind,
                fix=f"name one of {', '.join(sorted(prices.hosting)[:12])}, …",
            )
