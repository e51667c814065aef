"""What all benchmarks share, so that each is judged as we would judge a rival's.

Contenders run in turn, and the order is turned round from one round to the next, so that neither
always has the warm machine. Every figure is the median of the rounds with the least and the
greatest beside it, and a ratio is the median of the ratios of single rounds: what is quoted is the
middle run, never the best. A machine that is busy is refused, and its load is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

RESULTS = Path(__file__).parent / "results"
FEWEST_ROUNDS = 3
MOST_BUSY = 0.15
"""Share of the processors that other programs may use before the start."""
_LOOK_SECONDS = 3.0

Figures = Mapping[str, float]
Spread = dict[str, float]
Outcome = TypeVar("Outcome")


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """The options that every benchmark has; its results go to results/NAME.json."""
    made = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    made.add_argument("--rounds", type=int, default=FEWEST_ROUNDS, help="each contender's runs")
    made.add_argument(
        "--quick",
        action="store_true",
        help="one short round on any machine, to see that it runs: its figures mean nothing",
    )
    made.add_argument("--force", action="store_true", help="measure although the machine is busy")
    made.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return made


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """Check the options and the machine; what is said of it in the results.

    Raises SystemExit on a busy machine, and where there are too few rounds for a median.
    """
    if options.quick:
        options.rounds = 1
    elif options.rounds < FEWEST_ROUNDS:
        raise SystemExit(f"--rounds {options.rounds}: a median needs at least {FEWEST_ROUNDS}")
    busy = round(psutil.cpu_percent(_LOOK_SECONDS) / 100, 3)
    if busy > MOST_BUSY and not (options.force or options.quick):
        raise SystemExit(
            f"the machine is busy: {busy:.0%} of its processors are used, at most {MOST_BUSY:.0%} "
            "may be. End what runs, or give --force (which is written down)"
        )
    return {
        "busy_before": busy,
        "load_before": round(os.getloadavg()[0], 2),
        "forced": bool(options.force),
        "quick": bool(options.quick),
        "rounds": options.rounds,
        "cpus": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def in_turn(
    contenders: Mapping[str, Callable[[], Outcome]], rounds: int
) -> dict[str, list[Outcome]]:
    """Every contender's outcome of each round; every second round goes backwards."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for turn in range(rounds):
        order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
        for name in order:
            began = time.perf_counter()
            outcomes[name].append(contenders[name]())
            seconds = time.perf_counter() - began
            print(f"round {turn + 1} of {rounds}: {name} took {seconds:.1f} s", flush=True)
    return outcomes


def spread(values: Sequence[float], digits: int = 3) -> Spread:
    """The median, and the least and the greatest of the rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "greatest": round(max(values), digits),
    }


def spreads(runs: Sequence[Figures]) -> dict[str, Spread]:
    """`spread` of every figure that all runs have."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: spread([run[name] for run in runs]) for name in names}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours divided by theirs, of each round by itself: what changes between rounds goes out."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def write(path: Path, result: Mapping[str, Any]) -> None:
    """The results as JSON, to the file and the terminal; a quick run's are only shown."""
    text = json.dumps(result, indent=2)
    print(text)
    if result["machine"]["quick"]:
        print("--quick: nothing was written")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def environment(
    folder: Path, *packages: str, without: Sequence[str] = (), beside: bool = False
) -> Path:
    """The python of an environment with these packages, made where it is not there yet.

    Args:
        folder: of the environment.
        packages: for pip.
        without: what goes again of what pip installed for them.
        beside: it sees this environment's packages as well.
    """
    python = folder / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if beside:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        path = folder / "lib" / version / "site-packages" / "beside.pth"
        path.write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    if without:
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *without], check=True)
    return python
