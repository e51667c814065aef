"""What to evaluate, as the command and the API ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What to evaluate; where nothing is named, the endpoint of job.yaml on its test channel."""

    endpoint: str | None = None
    """An endpoint that answers."""
    model_data: str | None = None
    """Or an artefact on this machine, served meanwhile."""
    transform_output: str | None = None
    """Or what a batch transform job wrote: a directory, a file or an s3:// prefix."""
    data: str | None = None
    """Held-out rows: a file, directory or s3:// URI."""
    captured: str | None = None
    """Or the newest requests that this endpoint has captured; measured are its own answers, or
    those that `endpoint` or `model_data` gives to the same requests."""
    labels: str | None = None
    """What is right, by the requests' ids: a file, directory or s3:// URI of JSON lines."""
    newest: int | None = None
    """So many captured exchanges at most; default: 1000."""
    slices: Sequence[str] = ()
    """Columns whose every value gets metrics of its own, besides those of job.yaml."""
    output: Path | None = None
    """Directory of the report; default: WORK_DIR/NAME/report."""
    fail_under: Mapping[str, float] = field(default_factory=dict)
    """Gates, besides those of job.yaml."""
    fail_over: Mapping[str, float] = field(default_factory=dict)
    benchmarks: Sequence[str] = ()
    """Tasks of lm-evaluation-harness instead of rows; `job` stands for those of job.yaml."""
    benchmark_files: Path | None = None
    """Directory of task files."""
    load: bool = False
    """Also find the throughput at a limit of latency, as `evaluation.load` says."""
    p99_ms: float | None = None
    """The limit, in its place."""
    command: str = ""
    """How to do it again, for the report."""
