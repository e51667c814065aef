"""Jobs as SageMaker lays them out, and the real `train` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAIN = Path(sys.executable).with_name("train")
"""Of this environment."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Base:
    """A job's base directory."""

    path: Path
    command: Path = TRAIN

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def failure(self) -> str:
        path = self.path / "output" / "failure"
        return path.read_text() if path.exists() else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        text = (self.path / "output" / "data" / "training_log.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    @property
    def losses(self) -> dict[int, float]:
        return {row["step"]: row["loss"] for row in self.log if "loss" in row}

    @property
    def results(self) -> dict[str, float]:
        return json.loads((self.model / "eval_results.json").read_text())

    def start(self, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
        """`train`, as the container starts it."""
        return subprocess.Popen(
            [str(self.command)],
            env={
                **os.environ,
                "SAGEMAKER_BASE_DIR": str(self.path),
                "SAGEMAKER_TRAINING_MODULE": "sm_train.entry:main",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            cwd=self.path,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, **environment: str) -> tuple[int, str]:
        """Exit code and log of a whole run."""
        process = self.start(**environment)
        output, _ = process.communicate(timeout=180)
        return process.returncode, output

    def train_here(self) -> None:
        """The same code in this process: errors come out as they are raised."""
        from sm_train import entry
        from sm_train.contract import Paths
        from sm_train.platform.stopping import StopRequest

        entry.run(Paths(self.path), StopRequest(), time.time())


def lay_out(path: Path, settings: dict[str, Any], **channels: Rows | Path) -> Base:
    config = path / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    (config / "hyperparameters.json").write_text(json.dumps(values))
    (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in channels}))
    cluster = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    (config / "resourceconfig.json").write_text(json.dumps(cluster))
    (path / "input" / "data").mkdir(exist_ok=True)
    for name, content in channels.items():
        folder = path / "input" / "data" / name
        if isinstance(content, Path):
            folder.symlink_to(content)
            continue
        folder.mkdir()
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, content)))
    return Base(path)
