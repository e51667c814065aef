"""Several production variants: a server each, traffic by weight or by name."""

import json
from collections import Counter

import pytest
from botocore.exceptions import ClientError

import sm_launch
from sm_launch import cli
from sm_launch.errors import LaunchError

from .conftest import ROLE, processes_below, wait_for, wait_for_endpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def two_variants(session, model_archive):
    def create(second=None):
        variants = []
        for version, behaviour in ((1, {}), (2, second or {})):
            name = f"model-{version}"
            archive = model_archive(name, version=version, **behaviour)
            session.create_model(
                ModelName=name,
                PrimaryContainer={"Image": "serve:local", "ModelDataUrl": archive.as_uri()},
                ExecutionRoleArn=ROLE,
                EnableNetworkIsolation=version == 2,
            )
            variants.append(
                {
                    "VariantName": f"v{version}",
                    "ModelName": name,
                    "InitialInstanceCount": 2,
                    "InstanceType": "ml.m5.large",
                    "InitialVariantWeight": 3.0 if version == 1 else 1.0,
                }
            )
        session.create_endpoint_config(EndpointConfigName="two", ProductionVariants=variants)
        session.create_endpoint(EndpointName="two", EndpointConfigName="two")

    return create


def ask(session, **more):
    return session.invoke_endpoint(EndpointName="two", Body=b"x", **more)


def shares(session, count=200):
    return Counter(ask(session)["InvokedProductionVariant"] for _ in range(count))


def test_traffic_goes_by_weight_or_by_name(session, two_variants):
    two_variants()
    described = wait_for_endpoint(session, "two")["ProductionVariants"]
    assert [variant["CurrentWeight"] for variant in described] == [3.0, 1.0]
    assert [variant["CurrentInstanceCount"] for variant in described] == [1, 1]
    assert 120 <= shares(session)["v1"] <= 180
    seen = json.loads(ask(session, TargetVariant="v2")["Body"].read())
    assert seen["version"] == 2
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ClientError, match=r"'v3' of endpoint two was not found; there are \['v1'"):
        ask(session, TargetVariant="v3")
    assert session.endpoint_url("two") != session.endpoint_url("two", "v2")


def test_weights_can_be_changed(session, two_variants):
    two_variants()
    wait_for_endpoint(session, "two")

    def set_weights(**weights):
        session.update_endpoint_weights_and_capacities(
            EndpointName="two",
            DesiredWeightsAndCapacities=[
                {"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()
            ],
        )

    set_weights(v1=0)
    assert shares(session, 30) == {"v2": 30}
    described = session.describe_endpoint(EndpointName="two")["ProductionVariants"]
    assert described[0]["CurrentWeight"] == 0
    set_weights(v2=0)
    with pytest.raises(ClientError, match="have weight 0"):
        ask(session)
    with pytest.raises(ClientError, match="'v3' is none of"):
        set_weights(v3=1)


def test_the_command_moves_the_traffic(session, two_variants, monkeypatch, capsys):
    monkeypatch.setattr("sm_launch.target.context.open_session", lambda *_, **__: session)
    two_variants()
    arn = session.describe_endpoint(EndpointName="two")["EndpointArn"]
    with pytest.raises(LaunchError, match="sm-launch did not make it"):
        sm_launch.weights("two", {"v1": 1}, target="process")
    session.add_tags(ResourceArn=arn, Tags=[{"Key": "sm-launch:job", "Value": "some"}])
    with pytest.raises(ClientError, match="in-progress"):
        sm_launch.weights("two", {"v1": 1}, target="process")
    wait_for_endpoint(session, "two")
    command = ["weights", "two", "--target", "process"]

    assert cli.run([*command, "v1=0", "v2=90"]) == 0
    assert shares(session, 30) == {"v2": 30}
    assert capsys.readouterr().out.splitlines()[1].startswith("v2 ")
    assert cli.run([*command, "v1=30", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["variants"]
    assert [each["share"] for each in told] == [0.25, 0.75]
    assert 20 <= shares(session)["v1"] <= 80
    assert cli.run([*command, "v1=5", "--dry-run"]) == 0
    assert cli.run([*command, "--json"]) == 0  # nothing to change: only shown
    assert '"weight": 30' in capsys.readouterr().out

    for wrong, message in (
        (["v3=1"], "it has v1, v2"),
        (["v1=-1"], "zero or more"),
        (["v1=0", "v2=0"], "all variants would have weight 0"),
        (["v1"], "is not NAME=NUMBER"),
        (["v1=much"], "is not a number"),
        (["v1=1", "v1=2"], "names a variant twice"),
        (["--instances", "v1=2"], "a variant has one server here"),
    ):
        assert cli.run([*command, *wrong]) == 2, wrong
        assert message in capsys.readouterr().err, wrong
    assert [each["weight"] for each in sm_launch.weights("two", target="process")] == [30, 90]


def test_one_bad_variant_fails_the_endpoint_and_stops_the_other(session, two_variants):
    two_variants(second={"exit_code": 5})
    reason = wait_for_endpoint(session, "two", "Failed")["FailureReason"]
    assert "Variant v2" in reason
    assert "exited with code 5" in reason
    assert processes_below(session._store.home) == []


def test_deleting_stops_both(session, two_variants):
    two_variants()
    wait_for_endpoint(session, "two")
    assert len(processes_below(session._store.home)) == 2
    session.delete_endpoint(EndpointName="two")
    wait_for(lambda: not session.list_endpoints()["Endpoints"])
    assert processes_below(session._store.home) == []
