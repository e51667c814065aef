"""Points in time as data sets write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sm_launch.data.chunks import is_null


def seconds_since_epoch(value: Any) -> float | None:
    """Seconds since 1970 of a number, an ISO 8601 text or a datetime; None: it is none of these.

    A text without a time zone counts as UTC.
    """
    if isinstance(value, bool) or is_null(value):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        return _parse(value.strip())
    if isinstance(value, datetime):
        return _aware(value).timestamp()
    return _parse(str(value))


def _parse(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return _aware(datetime.fromisoformat(text)).timestamp()
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
