"""The scan gate, against answers that botocore holds to be ECR's."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from sm_launch.errors import LaunchError
from sm_launch.images import scanning

COUNTS = {"CRITICAL": 1, "MEDIUM": 4}


@pytest.fixture
def ecr():
    client = boto3.client("ecr", region_name="eu-west-1", aws_access_key_id="a",
                          aws_secret_access_key="b")  # fmt: skip
    with Stubber(client) as stub:
        client.stub = stub
        yield client
        stub.assert_no_pending_responses()


def answer(ecr, status: str, **fields) -> None:
    state = {"imageScanStatus": {"status": status, "description": "says ECR"}}
    ecr.stub.add_response("describe_image_scan_findings", state | fields)


def test_it_waits_until_the_scans_have_ended(ecr):
    ecr.stub.add_client_error("describe_image_scan_findings", "ScanNotFoundException")
    answer(ecr, "IN_PROGRESS")
    answer(ecr, "COMPLETE", imageScanFindings={"findingSeverityCounts": COUNTS})
    answer(ecr, "ACTIVE", imageScanFindings={})
    result = scanning.scan("cpu", "v1", ecr=ecr, pause=0)
    assert result == {"sm-train": COUNTS, "sm-serve": {}}


@pytest.mark.parametrize("status", ["FAILED", "UNSUPPORTED_IMAGE", "FINDINGS_UNAVAILABLE"])
def test_what_is_not_scanned_is_no_pass(ecr, status):
    answer(ecr, status)
    with pytest.raises(LaunchError, match=f"(?s){status}: says ECR.*sm-train:v1-cpu"):
        scanning.scan("cpu", "v1", ecr=ecr, pause=0)


@pytest.mark.parametrize(("severity", "count"), [("CRITICAL", 1), ("HIGH", 1), ("MEDIUM", 5)])
def test_worse_findings_count(severity, count):
    assert scanning.at_least(COUNTS, severity) == count
    assert scanning.at_least({}, severity) == 0
