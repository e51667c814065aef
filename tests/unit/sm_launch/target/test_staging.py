"""Names in job.yaml become URIs, or an error that says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sm_launch.errors import UserInputError
from sm_launch.job.base_model import resolve_model
from sm_launch.job.config import JobConfig
from sm_launch.target.channels import check_channel_names, resolve_channels
from sm_launch.target.staging import LocalStage, S3Stage


def job(directory: Path, **training: object) -> JobConfig:
    config = JobConfig.model_validate({"name": "mine", "training": training})
    config.directory = directory
    return config


def model_directory(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    return directory


def test_model_may_be_a_directory(tmp_path: Path) -> None:
    model_directory(tmp_path / "base")
    assert resolve_model(job(tmp_path, model="./base")).location == str(tmp_path / "base")


def test_model_may_be_a_hub_id_or_s3(tmp_path: Path) -> None:
    assert resolve_model(job(tmp_path, model="org/name")).hub_id == "org/name"
    assert resolve_model(job(tmp_path, model="s3://b/m/")).location == "s3://b/m/"


def test_model_may_be_inside_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carries_a_model"
    model_directory(package / "weights")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    path = resolve_model(job(tmp_path, model="package:carries_a_model/weights"))
    assert path.location == str(package / "weights")
    with pytest.raises(UserInputError, match=r"no config\.json"):
        resolve_model(job(tmp_path, model="package:carries_a_model/elsewhere"))


@pytest.mark.parametrize("model", ["./absent", "/absent/model", "package:absent_package/model"])
def test_absent_models_are_named(tmp_path: Path, model: str) -> None:
    with pytest.raises(UserInputError, match=r"training\.model"):
        resolve_model(job(tmp_path, model=model))


def test_channels_default_to_prepared_data(tmp_path: Path) -> None:
    config = job(tmp_path)
    with pytest.raises(UserInputError, match="sm-launch data prepare"):
        resolve_channels(config)
    for name in ("train", "test"):
        (config.prepared_path / name).mkdir(parents=True)
    assert set(resolve_channels(config)) == {"train", "test"}


def test_named_channels_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"training\.channels\.train: no such file"):
        resolve_channels(job(tmp_path, channels={"train": "absent.jsonl"}))


def test_local_targets_leave_s3_to_the_start_of_the_job(tmp_path: Path) -> None:
    assert LocalStage(tmp_path).channel("train", "s3://bucket/train") == "s3://bucket/train"


class Bucket:
    """An S3 client's two methods over a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads = 0

    def upload_file(
        self, Filename: str, Bucket: str, Key: str, ExtraArgs: dict[str, str] | None = None
    ) -> None:
        self.uploads += 1
        self.objects[f"{Bucket}/{Key}"] = Path(Filename).read_bytes()

    def head_object(self, *, Bucket: str, Key: str) -> object:
        if f"{Bucket}/{Key}" not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        return {}


def test_uploads_happen_once_and_change_with_the_content(tmp_path: Path) -> None:
    bucket = Bucket()
    stage = S3Stage(bucket, "b", "prefix", "mine")
    directory = tmp_path / "train"
    (directory / "part").mkdir(parents=True)
    (directory / "part" / "0.jsonl").write_text("one")
    first = stage.channel("train", str(directory))
    assert first.startswith("s3://b/prefix/mine/input/train/")
    assert first == stage.channel("train", str(directory))
    assert bucket.uploads == 1
    assert bucket.objects == {f"{first}part/0.jsonl".removeprefix("s3://"): b"one"}
    (directory / "part" / "0.jsonl").write_text("two")
    assert stage.channel("train", str(directory)) != first
    assert stage.channel("train", "s3://other/train") == "s3://other/train"


@pytest.mark.parametrize(
    ("names", "split"),
    [(["train", "training"], "train"), (["train", "val", "Validation"], "validation")],
)
def test_two_channels_of_one_split_are_refused(names: list[str], split: str) -> None:
    check_channel_names(["train", "val", "test", "judge", "model", "config", "code"])
    check_channel_names(["train", "tester"], ["channel:tester"])
    with pytest.raises(UserInputError, match="is no channel that training reads"):
        check_channel_names(["train", "validaton"])
    with pytest.raises(UserInputError) as refused:
        check_channel_names(names)
    assert f"are both {split} data" in str(refused.value)
