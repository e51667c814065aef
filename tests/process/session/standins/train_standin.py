"""A training module as small as can be; the real toolkit imports and runs it.

Hyperparameters decide how it behaves.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])


def main():
    settings = json.loads((BASE / "input/config/hyperparameters.json").read_text())
    signal.signal(signal.SIGTERM, lambda *_: on_stop(settings))
    print("eval_accuracy=0.5 eval_loss=1.5", flush=True)
    print("\rstep 1 eval_accuracy=0.875\rstep 2", flush=True)
    report()
    checkpoint(settings)
    if "failure_file" in settings:
        (BASE / "output/failure").write_text(settings["failure_file"])
        os._exit(3)
    if "exit_code" in settings:
        print("the last words", flush=True)
        os._exit(int(settings["exit_code"]))
    if "leave_behind" in settings:
        # A session of its own, as torchrun gives its workers.
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True
        )
    time.sleep(float(settings.get("seconds", 0)))
    (BASE / "model/weights.txt").write_text(settings.get("score", "trained"))
    (BASE / "output/data/log.jsonl").write_text('{"step": 1}\n')
    if "score" in settings:
        print(f"eval_accuracy={settings['score']}", flush=True)


def report():
    """Tell the test what the job saw."""
    seen = {
        "environment": dict(os.environ),
        "config": {
            path.stem: json.loads(path.read_text()) for path in (BASE / "input/config").iterdir()
        },
        "train": sorted(path.name for path in (BASE / "input/data/train").iterdir()),
        "cwd": str(Path.cwd()),
    }
    (BASE / "seen.json").write_text(json.dumps(seen))


def checkpoint(settings):
    directory = BASE / "checkpoints"
    if directory.is_dir():
        runs = directory / "runs.txt"
        count = int(runs.read_text()) if runs.exists() else 0
        print(f"resumed_runs={count}", flush=True)
        runs.write_text(str(count + 1))


def on_stop(settings):
    print("caught SIGTERM", flush=True)
    if "deaf" in settings:
        return
    (BASE / "model/weights.txt").write_text("partial")
    sys.exit(0)
