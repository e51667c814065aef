"""Peak memory and time to the first step of rows in memory and of a stream, at two sizes.

    python benchmarks/training_streaming.py

Each run is `train` with a tiny Llama for a few steps, on --rows rows and on ten times as many: what
grows with the rows is what the job keeps of them. `growth` is the peak memory with ten times the
rows divided by that with the rows.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from harness import begin, in_turn, ratio, spreads, write
from training import Run, arguments, base_and_rows, run_ours, stack

KINDS: dict[str, dict[str, str]] = {"in_memory": {}, "streaming": {"streaming": "true"}}
TIMES = 10


def measure(work: Path, options: argparse.Namespace) -> dict[str, list[Run]]:
    """The runs by kind and size, taken in turn."""
    contenders = {}
    for size in (1, TIMES):
        folder = work / str(size)
        folder.mkdir()
        larger = argparse.Namespace(**{**vars(options), "rows": options.rows * size})
        base_and_rows(folder, larger)
        for kind, settings in KINDS.items():
            contenders[f"{kind}_{size}"] = partial(run_ours, folder, options, **settings)
    return in_turn(contenders, options.rounds)


def growth(runs: dict[str, list[Run]], kind: str) -> Any:
    """Of the peak memory, from the rows to ten times as many."""
    few, many = ([run.peak_memory_gb for run in runs[f"{kind}_{size}"]] for size in (1, TIMES))
    return ratio(many, few)


def main() -> None:
    options = arguments(__doc__, "training_streaming", batch=8, logging_steps=2)
    machine = begin(options)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(Path(folder), options)
    write(
        options.output,
        {
            "machine": {**machine, **stack()},
            "settings": {**vars(options), "output": None},
            "growth": {kind: growth(outcomes, kind) for kind in KINDS},
            "runs": {
                name: spreads([asdict(run) for run in runs]) for name, runs in outcomes.items()
            },
        },
    )


if __name__ == "__main__":
    main()
