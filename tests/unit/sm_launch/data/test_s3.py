from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from sm_launch.data.s3 import fetcher
from sm_launch.errors import LaunchError, UserInputError

pytestmark = pytest.mark.slow


@pytest.fixture
def client(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="data")
        yield client


def test_an_object_is_prepared_like_a_file(client, run, reviews: Path, tmp_path: Path) -> None:
    client.upload_file(str(reviews), "data", "raw/reviews.csv")
    fetch = fetcher(client, tmp_path / "copies")
    assert run(input="s3://data/raw/reviews.csv", fetch=fetch).report.rows_kept == 100


def test_without_a_fetch_boto3_is_used(client, run, reviews: Path) -> None:
    client.upload_file(str(reviews), "data", "reviews.csv")
    assert run(input="s3://data/reviews.csv").report.rows_kept == 100


def test_no_credentials(run, monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(LaunchError, match="check the AWS credentials"):
        run(input="s3://data/reviews.csv")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://data/none.csv", "nothing below it"),
        ("s3://other/none.csv", "no such object"),
        ("s3://data/folder/", "nothing below it"),
    ],
)
def test_what_is_not_there_is_named(client, tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        fetcher(client, tmp_path)(uri)
    assert uri in str(caught.value)


def test_a_prefix_is_a_directory(client, tmp_path: Path) -> None:
    client.put_object(Bucket="data", Key="set/b.jsonl", Body=b"{}\n")
    client.put_object(Bucket="data", Key="set/deep/a.jsonl", Body=b"{}\n")
    for uri in ("s3://data/set", "s3://data/set/"):
        copy = fetcher(client, tmp_path)(uri)
        assert sorted(p.name for p in copy.rglob("*.jsonl")) == ["a.jsonl", "b.jsonl"]


def test_an_object_that_goes_away_meanwhile_is_named(client, tmp_path: Path, monkeypatch) -> None:
    for key in ("set/a.jsonl", "set/b.jsonl"):
        client.put_object(Bucket="data", Key=key, Body=b"{}\n")
    download = client.download_file

    def deleting(bucket: str, key: str, path: str) -> None:
        client.delete_object(Bucket="data", Key="set/b.jsonl")
        download(bucket, key, path)

    monkeypatch.setattr(client, "download_file", deleting)
    with pytest.raises(LaunchError, match="went away") as caught:
        fetcher(client, tmp_path)("s3://data/set/")
    assert "s3://data/set/b.jsonl" in str(caught.value)


def test_upload_and_evaluate_on_s3(client, run, tmp_path: Path, monkeypatch, capsys) -> None:
    """Channels go up once; an evaluation reads rows and a transform job's answers from there."""
    import json

    from sm_launch import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    lines = [f"review {n},{'good' if n % 2 else 'bad'}" for n in range(60)]
    Path("rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    Path("job.yaml").write_text("name: up\ndata: {input: rows.csv}\naws: {bucket: data}\n")
    assert cli.run(["data", "upload", "--json"]) == 2  # nothing is prepared
    assert cli.run(["data", "prepare"]) == 0
    capsys.readouterr()
    assert cli.run(["data", "upload", "--dry-run", "--json"]) == 0
    named = json.loads(capsys.readouterr().out)["channels"]
    assert "Contents" not in client.list_objects_v2(Bucket="data")
    assert cli.run(["data", "upload", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == named
    before = client.list_objects_v2(Bucket="data")["Contents"]
    assert len(before) == 3
    assert cli.run(["data", "upload"]) == 0
    assert named["test"] in capsys.readouterr().out
    assert client.list_objects_v2(Bucket="data")["Contents"] == before  # nothing is sent twice

    answers = "".join(json.dumps([{"label": "good", "score": 1.0}]) + "\n" for _ in range(6))
    client.put_object(Bucket="data", Key="answers/test.jsonl.out", Body=answers.encode())
    command = ["evaluate", "--data", named["test"], "--transform-output", "s3://data/answers/"]
    assert cli.run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"]["total"] == 6
    assert document["metrics"]["accuracy"] == 0.5
