"""An encoder as it was trained and as `sm-launch optimize` makes it, each behind our own server.

    python benchmarks/optimization.py [--model DIR] [--task classification|embedding]
                                      [--clients 1 16]

DIR is a model directory; by default all-MiniLM-L6-v2 with a head, of benchmarks/serving_models.py.
The weights are made as the job makes them, in int8 and in bfloat16; quality is proven by the job on
rows of its own, so that here only size, memory and speed are measured. `same_answers` is the share
of answers that are those of float32, label and score to three digits.

In each round (see harness.py) every server is started, loaded and ended, by itself. What the
figures mean is said in serving.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import serving
import serving_targets as servers
from harness import begin, in_turn, parser, write


def make_model(folder: Path, task: str) -> Path:
    """MiniLM of its package."""
    name = "minilm-embedding" if task == "embedding" else "minilm"
    script = str(Path(__file__).with_name("serving_models.py"))
    subprocess.run([sys.executable, script, name, folder], check=True)
    return folder


def targets(args: argparse.Namespace, work: Path) -> dict[str, servers.Target]:
    """One server for each precision. bfloat16 is computed in where the server is told to."""
    environ = {"OMP_NUM_THREADS": str(args.threads), "BENCH_TASK": args.task}
    plain = args.model or make_model(work / "model", args.task)
    int8 = servers.make_int8(plain, work / "int8", args.task)
    chosen = {}
    for name, model, own in (
        ("float32", plain, {}),
        ("int8", int8, {}),
        ("bfloat16", plain, {"SM_SERVE_DTYPE": "bfloat16"}),
    ):
        chosen[name] = servers.ours(servers.base_dir(work / f"base-{name}", model), environ | own)
    return chosen


def size(base: Path) -> float:
    """Megabytes of a model directory."""
    return sum(file.stat().st_size for file in base.rglob("*") if file.is_file()) / 1e6


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Each precision in turn."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        known = targets(args, work)
        machine = begin(args)
        contenders = {
            name: lambda target=target: serving.measure(target, args, work)
            for name, target in known.items()
        }
        outcomes = in_turn(contenders, args.rounds)
        sizes = {name: round(size(work / f"base-{name}" / "model"), 1) for name in known}
    reference = outcomes["float32"][0]["answers"]
    return {
        "machine": machine,
        "task": args.task,
        "model": args.model.name if args.model else "minilm",
        "threads": args.threads,
        "requests": args.requests,
        "artefacts_mb": sizes,
        "precisions": [serving.summarise(name, runs, reference) for name, runs in outcomes.items()],
        "int8_against": serving.compare(outcomes, "int8", "requests_per_s", args.clients),
    }


def main() -> None:
    """Command line."""
    made = parser(__doc__, "optimization")
    made.add_argument("--task", choices=["classification", "embedding"], default="classification")
    made.add_argument("--model", type=Path)
    made.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    made.add_argument("--requests", type=int, default=400)
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = made.parse_args()
    if args.quick:
        args.clients, args.requests = [1, 4], 8
    args.model = args.model and args.model.resolve()
    write(args.output, run(args))


if __name__ == "__main__":
    main()
