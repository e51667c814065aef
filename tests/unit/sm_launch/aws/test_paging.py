"""Lists are read to their end: by one helper or botocore's paginators, and by nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sm_launch
from sm_launch.aws.paging import every
from sm_launch.errors import LaunchError
from sm_launch.hosting import components, endpoints
from sm_launch.jobs import training, tuning

SOURCE = Path(sm_launch.__file__).parent
SERVICES = ("sagemaker", "s3", "cloudwatch", "logs", "ecr", "iam", "ec2", "cloudformation",
            "application-autoscaling", "service-quotas", "codebuild", "secretsmanager",
            "scheduler")  # fmt: skip
TOKENS = {"NextToken", "nextToken", "NextMarker", "Marker", "NextContinuationToken"}
# Calls that name each thing they want; the last yields a position, not a page.
BOUNDED = {"describe_stacks": "StackName", "describe_subnets": "SubnetIds",
           "describe_security_groups": "GroupIds", "describe_images": "imageIds",
           "describe_repositories": "repositoryNames",
           # The counts by severity are whole on its first page.
           "describe_image_scan_findings": "imageId"}  # fmt: skip
OUR_OWN = {"list_images"}  # of sm_launch.images; the service has one of that name too


def paged_methods() -> set[str]:
    """Every client method of our services whose answer may say that there is more."""
    session = botocore.session.get_session()
    methods = set()
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            output = model.operation_model(name).output_shape
            if output is not None and TOKENS & set(output.members):
                methods.add(xform_name(name))
    return methods - OUR_OWN


def first_pages(source: str) -> Iterator[str]:
    """Calls of such methods: whoever calls one reads a single page."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        keywords = {keyword.arg for keyword in node.keywords}
        of_super = isinstance(node.func.value, ast.Call)  # the sessions' own inheritance
        if (
            name.startswith(("list_", "describe_"))
            and name in METHODS
            and BOUNDED.get(name) not in keywords
            and not of_super
        ):
            yield f"{node.lineno}: {name}"


METHODS = paged_methods()


def test_the_look_at_the_source_sees_a_first_page() -> None:
    assert {"list_endpoints", "list_training_jobs", "describe_alarms", "list_tags"} <= METHODS
    assert list(first_pages("x = client.list_endpoints(NameContains='a')['Endpoints']"))
    assert list(first_pages("client.describe_subnets(Filters=[])"))
    assert not list(first_pages("client.describe_subnets(SubnetIds=ids)"))
    assert not list(first_pages("every(client.list_endpoints, 'Endpoints')"))


@pytest.mark.slow
def test_nothing_reads_a_first_page_only() -> None:
    calls = [
        f"{path.relative_to(SOURCE)}:{call}"
        for path in sorted(SOURCE.rglob("*.py"))
        for call in first_pages(path.read_text())
    ]
    assert calls == []


NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Pages:
    """A client whose every List call answers in pages of so many entries."""

    def __init__(self, entries: list[dict[str, Any]], size: int, empty_first: bool = False) -> None:
        self.entries, self.size, self.empty_first = entries, size, empty_first
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(**query: Any) -> dict[str, Any]:
            self.calls += 1
            token = query.get("NextToken", "")
            if self.empty_first and not token:
                # A filter that leaves nothing of a page: the service does that.
                return {self.key(name): [], "NextToken": "0"}
            start = int(token or 0)
            end = start + self.size
            more = {"NextToken": str(end)} if end < len(self.entries) else {}
            return {self.key(name): self.entries[start:end], **more}

        return call

    @staticmethod
    def key(name: str) -> str:
        return {"list_endpoints": "Endpoints", "list_inference_components": "InferenceComponents"
                }.get(name, "TrainingJobSummaries")  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(0, 60), size=st.integers(1, 25), empty_first=st.booleans())
def test_all_entries_come_once_and_in_order(count: int, size: int, empty_first: bool) -> None:
    entries = [{"n": n} for n in range(count)]
    client = Pages(entries, size, empty_first)
    assert list(every(client.list_endpoints, "Endpoints")) == entries


def test_a_list_without_an_end_is_refused() -> None:
    def call(**_: Any) -> dict[str, Any]:
        return {"Endpoints": [{}], "NextToken": "same"}

    with pytest.raises(LaunchError, match="does not end"):
        list(every(call, "Endpoints"))


@pytest.mark.parametrize("place", [0, 9, 10, 19, 20])
def test_what_stands_on_a_later_page_is_found(place: int) -> None:
    names = [f"news-{n}" for n in range(21)]
    names[place] = "news"
    listed = [{"EndpointName": name, "EndpointStatus": "InService"} for name in names]
    assert endpoints.exists(Pages(listed, 10), "news")
    assert not endpoints.exists(Pages(listed, 10), "new")
    stamps = [f"news-20260101-0000{n:02d}-000" for n in range(21)]
    jobs = [
        {"TrainingJobName": stamp if n == place else stamp.replace("news", "newsletter")}
        for n, stamp in enumerate(stamps)
    ]
    (job,) = training._named_after(Pages(jobs, 10), "news", "Completed")
    assert job["TrainingJobName"] == stamps[place]


def test_components_and_trials_of_every_page() -> None:
    parts = [{"InferenceComponentName": f"part-{n}"} for n in range(25)]
    assert len(components.list_names(Pages(parts, 10), "news")) == 25
    trials = [
        {"TrainingJobName": f"t{n}", "TrainingJobStatus": "Completed", "TunedHyperParameters": {}}
        for n in range(25)
    ]
    assert len(tuning.trials(Pages(trials, 10), "sweep")) == 25
