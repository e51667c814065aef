"""FinalMetricDataList: what the request's MetricDefinitions find in a job's log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


class MetricScan:
    """Reads a growing log once, however often it is asked.

    SageMaker takes the first group of an expression as the value, and ignores what is no number.

    Args:
        log_path: the job's log; it may not exist yet.
        definitions: MetricDefinitions of the request.
    """

    def __init__(self, log_path: Path, definitions: list[dict[str, str]]) -> None:
        self._log_path = log_path
        self._patterns = [(each["Name"], re.compile(each["Regex"])) for each in definitions]
        self._values: dict[str, float] = {}
        self._offset = 0

    def final_metrics(self) -> list[dict[str, Any]]:
        """The last value so far of every metric that occurs, as SageMaker reports them."""
        if not self._patterns or not self._log_path.is_file():
            return []
        with self._log_path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                self._read(line.decode("utf-8", "replace"))
                # A line that is not ended yet is read again next time.
                self._offset += len(line) if line.endswith(b"\n") else 0
        modified = self._log_path.stat().st_mtime
        return [
            {"MetricName": name, "Value": self._values[name], "Timestamp": modified}
            for name, _ in self._patterns
            if name in self._values
        ]

    def _read(self, line: str) -> None:
        for part in line.split("\r"):  # a progress bar writes many times over one line
            for name, pattern in self._patterns:
                for match in pattern.finditer(part):
                    value = _number(match)
                    if value is not None:
                        self._values[name] = value


def _number(match: re.Match[str]) -> float | None:
    try:
        return float(match.group(1))
    except (IndexError, TypeError, ValueError):
        return None
