"""The two small files of a model in S3, without its weights."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from sm_launch.aws.clients import make_client
from sm_launch.evaluation import Artefact, read_artefact

pytestmark = pytest.mark.slow

CONFIG, RESULTS = {"id2label": {"0": "a"}}, {"test_accuracy": 0.5}


@pytest.fixture
def bucket(aws: str) -> str:
    client = make_client("s3")
    where = {"LocationConstraint": client.meta.region_name}
    client.create_bucket(Bucket="models", CreateBucketConfiguration=where)
    return "models"


@pytest.mark.parametrize("form", ["archive", "prefix"])
def test_an_artefact_in_s3_is_read(form: str, bucket: str):
    client = make_client("s3")
    files = {"config.json": CONFIG, "eval_results.json": RESULTS}
    texts = {name: json.dumps(value).encode() for name, value in files.items()}
    uri = f"s3://{bucket}/job/output/model"
    if form == "archive":
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in {**texts, "model.safetensors": b"0" * 5000}.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
        uri += ".tar.gz"
        client.put_object(Bucket=bucket, Key="job/output/model.tar.gz", Body=packed.getvalue())
    else:
        for name, text in texts.items():
            client.put_object(Bucket=bucket, Key=f"job/output/model/{name}", Body=text)
    assert read_artefact(uri) == Artefact(CONFIG, RESULTS)


def test_an_artefact_that_cannot_be_read_is_an_error_with_its_cause(bucket: str):
    with pytest.raises(OSError, match="NoSuchKey"):
        read_artefact(f"s3://{bucket}/nothing.tar.gz")
    assert read_artefact(f"s3://{bucket}/nothing/") is None
