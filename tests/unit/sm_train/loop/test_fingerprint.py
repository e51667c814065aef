"""A job takes up its own checkpoints and nobody else's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.config import load_config
from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.loop.checkpoints import last_complete, seal
from sm_train.loop.fingerprint import NAME, carry, differences, fingerprint, settle

ROWS = [{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}]
SETTINGS = {"method": "text-classification", "learning_rate": "0.001", "num_train_epochs": "2"}


@pytest.fixture
def job(
    paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]
) -> Callable[..., None]:
    """Begin a job in this base directory, as its entry does."""
    base = channel("model", '{"model_type": "bert"}', "config.json")

    def begin(rows: list[dict[str, Any]] | None = None, **changes: Any) -> None:
        hyperparameters(**{**SETTINGS, **changes})
        channel("train", rows or ROWS)
        settle(paths, load_config(paths), str(base))

    return begin


def checkpoint(folder: Path, step: int) -> Path:
    """As much as makes a checkpoint a whole one."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with zipfile.ZipFile(path / "optimizer.pt", "w") as archive:
        archive.writestr("data", "x")
    return path


def leave_checkpoint(paths: Paths, step: int = 10) -> Path:
    made = checkpoint(paths.checkpoints, step)
    carry(made)
    seal(made, 0)
    return made


def test_the_same_job_goes_on(paths: Paths, job: Callable[..., None]) -> None:
    job()
    made = leave_checkpoint(paths)
    assert json.loads((made / NAME).read_text())["method"] == "text-classification"
    job()
    # A value may be written in another way, and what only reports may change.
    job(learning_rate="1e-3", logging_steps="3", save_steps="7", save_total_limit="5")
    assert last_complete(paths.checkpoints) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": "0.01"}, "learning_rate was 0.001 and is 0.01"),
        ({"num_train_epochs": "3"}, "num_train_epochs was 2"),
        ({"seed": "7"}, "seed was not set and is 7"),
        ({"use_peft": "true"}, "use_peft was False and is True"),
        ({"early_stopping_patience": "2"}, "early_stopping_patience was not set and is 2"),
        ({"rows": [{"text": "good", "label": "b"}, *ROWS[1:]]}, "data.train was sha256:"),
        ({"method": "token-classification", "num_train_epochs": "2"}, "method was 'text-class"),
    ],
)
def test_another_job_is_refused_and_the_difference_named(
    change: dict[str, Any], message: str, paths: Paths, job: Callable[..., None]
) -> None:
    job()
    leave_checkpoint(paths)
    before = (paths.checkpoints / NAME).read_text()
    with pytest.raises(UserError, match="is of another job") as refused:
        job(**change)
    assert message in str(refused.value)
    assert "train anew in a place of its own" in str(refused.value)
    assert (paths.checkpoints / NAME).read_text() == before  # the refusal holds the next time too


def test_another_base_model_is_refused(paths: Paths, job: Callable[..., None]) -> None:
    job()
    leave_checkpoint(paths)
    (paths.channels / "model" / "config.json").write_text('{"model_type": "bert", "x": 1}')
    with pytest.raises(UserError, match="model was sha256:"):
        job()


def test_a_checkpoint_is_known_without_its_folder(paths: Paths, job: Callable[..., None]) -> None:
    """Somebody copies it elsewhere, or the file beside it is lost."""
    job()
    leave_checkpoint(paths)
    (paths.checkpoints / NAME).unlink()
    with pytest.raises(UserError, match="learning_rate"):
        job(learning_rate="0.5")


def test_one_of_another_tool_is_taken_with_a_warning(
    paths: Paths, job: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(paths.checkpoints, 10)
    job()
    assert "checkpoint-10 has no fingerprint" in capsys.readouterr().out


def test_without_a_checkpoint_nothing_is_refused(paths: Paths, job: Callable[..., None]) -> None:
    job()
    job(learning_rate="0.5")
    assert json.loads((paths.checkpoints / NAME).read_text())["hyperparameters"][
        "learning_rate"
    ] == pytest.approx(0.5)


def test_streamed_channels_are_known_by_their_ends(
    paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]
) -> None:
    hyperparameters(**SETTINGS)
    large = "a" * (1 << 20)
    modes = {"train": {"TrainingInputMode": "FastFile"}}
    (paths.config / "inputdataconfig.json").write_text(json.dumps(modes))
    fingerprints = []
    for text in (large + large, large + "b" + large[1:-1] + "a", large + "c", large + large + "a"):
        channel("train", text)
        fingerprints.append(fingerprint(paths, load_config(paths), "org/base")["data"]["train"])
    assert len(set(fingerprints)) == 4 - (fingerprints[0] == fingerprints[1])
    assert fingerprint(paths, load_config(paths), "org/base")["model"] == "org/base@main"


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("abc", max_size=5)
)
MAPS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=4)


@given(theirs=MAPS, own=MAPS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_difference_is_named_with_both_values(
    theirs: dict[str, Any], own: dict[str, Any]
) -> None:
    as_jobs = [{"method": "m", "data": {}, "hyperparameters": values} for values in (theirs, own)]
    changes = {name: (old, new) for name, old, new in differences(*as_jobs)}
    for name in theirs.keys() | own.keys():
        pair = (theirs.get(name), own.get(name))
        assert (name in changes) == (pair[0] != pair[1])
        assert changes.get(name, pair) == pair


def test_trials_of_a_tuning_job_have_a_folder_each(
    paths: Paths, hyperparameters: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(paths.base))
    monkeypatch.setenv("TRAINING_JOB_NAME", "sweep-001")
    hyperparameters(**SETTINGS)
    assert Paths.from_environment().checkpoints == paths.base / "checkpoints"
    hyperparameters(**SETTINGS, _tuning_objective_metric="eval:loss")
    assert Paths.from_environment().checkpoints == paths.base / "checkpoints" / "sweep-001"
