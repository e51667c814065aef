"""job.yaml: what is accepted, and what every kind of mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig, load_config
from sm_launch.target.choose import resolve_target


def write(directory: Path, document: object) -> Path:
    path = directory / "job.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_a_name_is_enough(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, {"name": "mine"}))
    assert config.training.method == "text-classification"
    assert config.endpoint_name == "mine"
    assert config.prepared_path == tmp_path / "build" / "mine" / "data"


def test_every_key_can_be_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "mine", "training": {"hyperparameters": {"seed": 1}}})
    overrides = (
        "training.hyperparameters.seed=7",
        "training.hyperparameters.learning_rate=3e-5",
        "training.instances.count=2",
        "aws.tags={team: nlp}",
        "training.spot=true",
    )
    config = load_config(path, overrides)
    assert config.training.hyperparameters["seed"] == 7
    assert config.training.hyperparameters["learning_rate"] == 3e-5
    assert config.training.instances.count == 2
    assert config.aws.tags == {"team": "nlp"}
    assert config.training.spot is True


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"name": "mine", "directory": "/data"}, "directory: unknown key"),
        ({"name": "mine", "trainning": {}}, "trainning: unknown key; did you mean 'training'?"),
        ({"name": "mine", "training": {"modell": "x"}}, "did you mean 'model'?"),
        ({"name": "mine", "endpoint": {"instances": {"typ": "x"}}}, "did you mean 'type'?"),
        ({}, "name: is required"),
        ({"name": "no_underscores"}, "letters, digits and single hyphens only"),
        ({"name": "mine", "target": "moon"}, "target:"),
        ({"name": "mine", "training": {"instances": {"count": 0}}}, "training.instances.count"),
        ({"name": "mine", "training": {"max_wait_seconds": 5}}, "needs spot: true"),
        (
            {
                "name": "mine",
                "training": {"spot": True, "instances": {"keep_alive_seconds": 60}},
            },
            "no warm pools of spot instances",
        ),
        (
            {"name": "mine", "training": {"network": {"subnets": ["subnet-1"]}}},
            "subnets and security_groups go together",
        ),
        ({"name": "mine", "training": {"channels": {"a b": "x"}}}, "channel name 'a b'"),
        ({"name": "mine", "training": {"channels": {"sm_drivers": "x"}}}, "reserved"),
        ("- a list", "must hold a mapping"),
        ("name: [unclosed", "is not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, document: object, expected: str) -> None:
    with pytest.raises(UserInputError) as caught:
        load_config(write(tmp_path, document))
    assert expected in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "mine", "typo": 1, "training": {"other": 2}})
    with pytest.raises(UserInputError, match=r"2 problem\(s\)"):
        load_config(path)


def test_missing_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="sm-launch init"):
        load_config(tmp_path / "job.yaml")


@pytest.mark.parametrize("override", ["nothing", "=1", "name.inside=1"])
def test_bad_override(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserInputError, match="--set"):
        load_config(write(tmp_path, {"name": "mine"}), (override,))


def test_yaml_floats_without_a_dot_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 5e-5 as a string: the value must still reach the container as a number."""
    text = "name: mine\ntraining: {hyperparameters: {learning_rate: 5e-5}}\n"
    config = load_config(write(tmp_path, text))
    assert config.training.hyperparameters["learning_rate"] == 5e-5


def test_target_follows_option_then_file_then_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert resolve_target(JobConfig(name="mine")) == "process"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    assert resolve_target(JobConfig(name="mine")) == "sagemaker"
    assert resolve_target(JobConfig(name="mine", target="docker")) == "docker"
    assert resolve_target(JobConfig(name="mine", target="docker"), "process") == "process"
