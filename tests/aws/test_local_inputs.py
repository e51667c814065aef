"""Local targets read s3:// inputs: fetched once a version, from AWS or another store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sm_launch import cli
from sm_launch.aws.clients import make_client
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.target import local_inputs
from sm_launch.target.local_inputs import S3Cache, with_local_inputs

pytestmark = pytest.mark.slow

JOB = """
name: mine
target: process
training:
  model: s3://data/base/
  channels: {train: "s3://data/train.jsonl", validation: s3://data/held-out}
aws: {bucket_owners: {data: "123456789012"}}
"""


class Recorder:
    """Keeps the requests that reach a local session."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda **request: self.asked.update({name: request})


@pytest.fixture
def store(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    client = make_client("s3")
    where = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket="data", CreateBucketConfiguration=where)
    for key in ("train.jsonl", "held-out/a.jsonl", "held-out/b/c.jsonl", "held-out-other/x",
                "base/config.json", "model.tar.gz", "async-in/1.json"):  # fmt: skip
        client.put_object(Bucket="data", Key=key, Body=key.encode())
    return client


def path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def test_requests_get_copies_of_their_inputs(store: Any) -> None:
    recorder = Recorder()
    session = with_local_inputs(recorder, lambda: store, print)  # type: ignore[arg-type]
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/held-out"}}
    session.create_training_job(
        InputDataConfig=[{"ChannelName": "a", "DataSource": source}],
        OutputDataConfig={"S3OutputPath": "s3://data/out"},
    )
    request = recorder.asked["create_training_job"]
    directory = path(request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"])
    names = sorted(str(file.relative_to(directory)) for file in directory.rglob("*.*"))
    assert names == ["a.jsonl", "b/c.jsonl"]
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://data/out"}
    session.create_model(PrimaryContainer={"ModelDataUrl": "s3://data/model.tar.gz"})
    model = recorder.asked["create_model"]["PrimaryContainer"]["ModelDataUrl"]
    assert path(model).name == "model.tar.gz" and path(model).read_text() == "model.tar.gz"
    served = {"S3DataSource": {"S3Uri": "s3://data/base/"}}
    session.create_model(PrimaryContainer={"ModelDataSource": served})
    uri = recorder.asked["create_model"]["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert uri["S3Uri"].endswith("/") and (path(uri["S3Uri"]) / "config.json").is_file()


def test_a_version_is_fetched_once(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    gets: list[str] = []
    fetch = store.get_object
    monkeypatch.setattr(store, "get_object", lambda **r: gets.append(r["Key"]) or fetch(**r))
    cache = S3Cache(lambda: store, local_inputs.cache_directory(), told.append)
    first = cache.path("s3://data/held-out")
    assert cache.path("s3://data/held-out") == first
    assert sorted(gets) == ["held-out/a.jsonl", "held-out/b/c.jsonl"]
    assert "as they were fetched before" in told[-1]
    store.put_object(Bucket="data", Key="held-out/a.jsonl", Body=b"new")
    second = cache.path("s3://data/held-out/")
    assert gets[2:] == ["held-out/a.jsonl"]  # the other one has not changed
    assert (second / "a.jsonl").read_bytes() == b"new"
    assert (first / "a.jsonl").read_bytes() == b"held-out/a.jsonl"  # a job may still read it


class Writing:
    """A store in which somebody writes before an object is read, so many times."""

    def __init__(self, store: Any, key: str, write: Callable[[], None], times: int) -> None:
        self._store, self._key, self._write, self._times = store, key, write, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_object(self, **request: Any) -> Any:
        if self._times and request["Key"] == self._key:
            self._times -= 1
            self._write()
        return self._store.get_object(**request)


@pytest.mark.parametrize("gone", [True, False])
def test_what_changes_while_it_is_read_is_read_once_more(store: Any, gone: bool) -> None:
    def write() -> None:
        if gone:
            store.delete_object(Bucket="data", Key="held-out/b/c.jsonl")
        else:
            store.put_object(Bucket="data", Key="held-out/b/c.jsonl", Body=b"new")

    told: list[str] = []
    client = Writing(store, "held-out/b/c.jsonl", write, 1)
    cache = S3Cache(lambda: client, local_inputs.cache_directory(), told.append)
    copy = cache.path("s3://data/held-out/")
    kept = {str(file.relative_to(copy)): file.read_bytes() for file in copy.rglob("*.jsonl")}
    assert kept == {"a.jsonl": b"held-out/a.jsonl"} | ({} if gone else {"b/c.jsonl": b"new"})
    assert "held-out/b/c.jsonl changed or went away" in told[0]
    drafts = [file for file in local_inputs.cache_directory().rglob("*") if "tmp" in file.name]
    assert drafts == []


def test_a_prefix_that_is_written_to_all_the_time_is_refused(store: Any) -> None:
    count = iter(range(1000))

    def write() -> None:
        store.put_object(Bucket="data", Key="held-out/a.jsonl", Body=f"{next(count)}".encode())

    client = Writing(store, "held-out/a.jsonl", write, 1000)
    cache = S3Cache(lambda: client, local_inputs.cache_directory(), print)
    with pytest.raises(LaunchError, match=r"something writes there: held-out/a\.jsonl"):
        cache.path("s3://data/held-out/")


@pytest.mark.parametrize(
    ("keys", "told"),
    [(["a", "a/b"], "cannot lie beside"), (["a/b", "a//b"], "cannot lie beside"),
     (["../a"], "leads out")],
)  # fmt: skip
def test_keys_that_are_no_files_are_refused(store: Any, keys: list[str], told: str) -> None:
    listed = [{"Key": f"odd/{key}", "ETag": '"1"', "Size": 1} for key in keys]
    pages = SimpleNamespace(paginate=lambda **_: [{"Contents": listed}])
    client = SimpleNamespace(get_paginator=lambda _: pages)
    cache = S3Cache(lambda: client, local_inputs.cache_directory(), print)
    with pytest.raises(LaunchError, match=told):
        cache.path("s3://data/odd/")


@pytest.mark.parametrize("uri", ["s3://data/absent", "s3://data/train", "s3://data/absent/"])
def test_nothing_of_that_name_is_said(store: Any, uri: str) -> None:
    cache = S3Cache(lambda: store, local_inputs.cache_directory(), print)
    with pytest.raises(UserInputError, match="no such object"):
        cache.path(uri)


def test_a_dry_run_fetches_nothing(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.yaml").write_text(JOB)
    assert cli.run(["train", "--dry-run"]) == 0
    request = json.loads(capsys.readouterr().out)
    uris = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in request["InputDataConfig"]]
    assert uris == ["s3://data/base/", "s3://data/train.jsonl", "s3://data/held-out"]
    assert not local_inputs.cache_directory().exists()


@pytest.mark.parametrize("target", ["process", "docker"])
def test_another_store_is_read_by_its_url(
    target: str,
    store: Any,
    aws: str,
    unnamed_owners: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("job.yaml").write_text(JOB)
    recorder = Recorder()
    monkeypatch.setattr("sm_launch.target.context.open_session", lambda *_, **__: recorder)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    asked = ["train", "--detach", "--set", f"aws.s3_endpoint_url={aws}",
             "--set", "training.image=sm-train:cpu"]  # fmt: skip
    assert cli.run([*asked, "--target", target]) == 0, capsys.readouterr().err
    for channel in recorder.asked["create_training_job"]["InputDataConfig"]:
        assert path(channel["DataSource"]["S3DataSource"]["S3Uri"]).exists()
    assert unnamed_owners  # it knows no accounts
    unnamed_owners.clear()
    assert cli.run([*asked, "--target", "sagemaker"]) == 2
    assert "aws.s3_endpoint_url" in capsys.readouterr().err
