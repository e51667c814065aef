"""Trackers, curves, the batch that fits, and crashes told as causes."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.entry import describe_crash
from sm_train.errors import UserError
from sm_train.loop.memory import smaller_batch
from sm_train.results.report import curves, panels, write_report
from sm_train.settings.reporters import KNOWN, check_tracking, reporters

HISTORY: list[dict[str, Any]] = [
    {"step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.1},
    {"step": 2, "epoch": 1.0, "loss": float("nan"), "learning_rate": 0.05},
    {"step": 2, "epoch": 1.0, "eval_loss": 1.5, "eval_runtime": 3.0},
    {"step": 2, "epoch": 1.0, "train_runtime": 9.0, "train_loss": 1.7},
    {"step": 2, "epoch": 1.0, "test_loss": 1.6},
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ["tensorboard"]),
        ("none", []),
        ("mlflow", ["mlflow", "tensorboard"]),
        (["tensorboard", "wandb"], ["tensorboard", "wandb"]),
    ],
)
def test_tensorboard_is_always_written(given: Any, expected: list[str]) -> None:
    assert reporters(given, {}) == expected


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("variables", [{}, {"MLFLOW_TRACKING_URI": "http://here"}])
def test_all_is_what_has_a_place_to_write_to(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations import integration_utils

    installed = ["mlflow", "tensorboard", "wandb"]
    monkeypatch.setattr(
        integration_utils, "get_available_reporting_integrations", lambda: installed
    )
    without = installed if variables else installed[1:]
    assert sorted(reporters("all", variables)) == without


@pytest.mark.parametrize(
    ("uri", "told"),
    [(None, "is not set, and MLflow would write into the container"),
     ("sqlite:///runs.db", "needs the package sqlalchemy"),
     ("postgresql+psycopg2://me:s3cret-word@db/runs", "needs the package sqlalchemy")],
)  # fmt: skip
def test_a_place_that_would_be_lost_is_refused_before_torch(
    uri: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sm_train.settings import packages
    from sm_train.settings import reporters as reporting

    monkeypatch.setattr(packages, "installed", lambda module: True)
    monkeypatch.setattr(reporting, "installed", lambda module: False)
    variables = {} if uri is None else {"MLFLOW_TRACKING_URI": uri}
    config = parse_config({"method": "sft", "report_to": "mlflow"})
    with pytest.raises(UserError, match=told) as refused:
        check_tracking(config, variables)
    assert "s3cret" not in str(refused.value)
    check_tracking(parse_config({"method": "sft"}), variables)
    check_tracking(config, {"MLFLOW_TRACKING_URI": "file:///data/runs"})


@pytest.mark.slow
def test_the_trackers_are_those_of_transformers() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(KNOWN) - {"all", "none"} == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize("given", ["tensorbord", ["none", "tensorbord"], '["tensorbord"]'])
def test_a_misspelt_tracker_is_refused_at_once(given: Any) -> None:
    with pytest.raises(UserError, match=r"report_to = .*'tensorbord' is no tracker.*'tensorboard'"):
        parse_config({"method": "sft", "report_to": given})


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_at_once(name: str) -> None:
    pytest.importorskip("transformers")
    try:
        __import__(name)
    except ImportError:
        with pytest.raises(UserError, match=f"report_to = '{name}': needs the package {name}"):
            parse_config({"method": "sft", "report_to": name})


@pytest.mark.slow  # imports matplotlib
def test_the_report_holds_curves_for_people_and_programs(tmp_path: Path) -> None:
    series = curves(HISTORY)
    assert series.keys() == {"loss", "learning_rate", "eval_loss"}
    assert panels(series) == ["loss", "learning_rate"]
    write_report(tmp_path, HISTORY, "sft, 2 steps")
    written = json.loads((tmp_path / "training_curves.json").read_text())
    assert written["loss"] == [[1, 2.0], [2, None]]
    assert written["eval_loss"] == [[2, 1.5]]
    assert (tmp_path / "training_curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("batch", "accumulation", "times", "expected"),
    [
        (8, 1, 0, (8, 1)),
        (8, 1, 1, (4, 2)),
        (6, 2, 1, (3, 4)),
        (6, 2, 2, (1, 12)),
        (1, 4, 3, (1, 4)),
    ],
)
def test_a_smaller_batch_keeps_the_rows_of_a_step(
    batch: int, accumulation: int, times: int, expected: tuple[int, int]
) -> None:
    assert smaller_batch(batch, accumulation, times) == expected


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory: CUDA"),
        (MemoryError(), "out of memory: MemoryError"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: "),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full: "),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk is full: "),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_the_cause_comes_first(error: Exception, start: str) -> None:
    assert describe_crash(error).startswith(start)
