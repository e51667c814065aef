"""What AWS refuses is refused on this machine, by the key of job.yaml and with what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import moto.ec2
import pytest
from pydantic import ValidationError

from sm_launch.errors import UserInputError
from sm_launch.hosting import deployment, registry, requests, transforms
from sm_launch.hosting.variants import TransformInputs
from sm_launch.job import local_storage
from sm_launch.job.config import JobConfig
from sm_launch.job.data import DataConfig
from sm_launch.job.naming import LOCAL_ROLE
from sm_launch.jobs import processing, training
from sm_launch.sessions.validation import RequestValidator
from sm_launch.target import refusals
from sm_launch.target.checking import check, facts_of
from sm_launch.target.context import JobContext

pytestmark = pytest.mark.slow  # botocore's service model is read

REGION = "eu-west-1"
IMAGE = f"111122223333.dkr.ecr.{REGION}.amazonaws.com/sm:1"
OURS = IMAGE.replace("/sm:", "/sm-train:")
ABROAD = IMAGE.replace(REGION, "us-east-1")
KEY = "alias/mine"
STRUCTURES = {"ResourceConfig": "training", "ProcessingClusterConfig": "processing",
              "TransformResources": "transform", "ProductionVariant": "endpoint"}  # fmt: skip


def job(**sections: Any) -> JobConfig:
    document = {"name": "mine", "target": "sagemaker", "data": {"input": "a.csv"}, **sections}
    document["training"] = {"image": IMAGE} | document.get("training", {})
    document["aws"] = {"training_role": LOCAL_ROLE, "region": REGION} | document.get("aws", {})
    return JobConfig.model_validate(document)


def calls(config: JobConfig) -> list[tuple[str, dict[str, Any]]]:
    """Every request that a job can lead to."""
    role = config.aws.training_role or ""
    image = config.endpoint.image or IMAGE
    raw = processing.ProcessingInputs(
        {"code": "s3://b/c"}, "s3://b/o", config.training.image or "", role
    )
    places = TransformInputs("s3://b/in", "s3://b/out", "text/csv")
    data = config.endpoint.model or "s3://b/model.tar.gz"
    deployed = deployment.build(config, model_data=data, image=image, role=role, output="s3://b/e")
    batch = transforms.build(
        config, "mine-1", model_data=data, image=image, role=role, inputs=places
    )
    return [
        ("CreateTrainingJob", training.example_request(JobContext(config, "sagemaker"))),
        ("CreateProcessingJob", processing.build_request(config, "mine-1", raw)),
        ("CreateModelPackageGroup", registry.group_request(config, registry.group_of(config))),
        ("CreateModelPackage", registry.package_request(
            config, "mine", registry.PackageInputs(data, image, "pending"))),
        *deployed.operations(),
        ("CreateTransformJob", batch.job),
    ]  # fmt: skip


def checked(config: JobConfig) -> list[str]:
    return check(calls(config), REGION, config.sagemaker)


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"training": {"instances": {"type": "ml.g5.xlrge"}}},
     "training.instances.type", "ml.g5.xlarge"),
    ({"training": {"instances": {"type": "local_gpu"}}}, "training.instances.type", "instance"),
    ({"transform": {"instance_type": "ml.p5.48xlarge"}}, "transform.instance_type", "no such"),
    ({"endpoint": {"instances": {"type": "ml.p3dn.24xlarge"}}},
     "endpoint.instances.type", "no such"),
    ({"data": {"input": "a", "processing": {"instance_type": "ml.t2.medium"}}},
     "data.processing.instance_type", "no such"),
    ({"training": {"instances": {"type": "ml.g5.xlarge", "volume_size_gb": 251}}},
     "training.instances.volume_size_gb", "choose ml.g5.2xlarge"),
    ({"data": {"input": "a", "processing": {"instance_type": "ml.g4dn.xlarge",
                                            "volume_size_gb": 1000}}},
     "data.processing.volume_size_gb", "125 GB"),
    ({"sagemaker": {"transform": {"TransformResources": {"VolumeKmsKeyId": "k"}}},
      "transform": {"instance_type": "ml.g5.xlarge"}},
     "sagemaker.transform.TransformResources.VolumeKmsKeyId", "local storage"),
    ({"sagemaker": {"training": {"ResourceConfig": {
        "VolumeKmsKeyId": "k", "InstanceType": None, "InstanceCount": None,
        "InstanceGroups": [{"InstanceGroupName": "a", "InstanceType": "ml.p4d.24xlarge",
                            "InstanceCount": 1}]}}}},
     "sagemaker.training.ResourceConfig.VolumeKmsKeyId", "ml.p4d.24xlarge"),
    ({"training": {"image": ABROAD}}, "training.image", "us-east-1"),
    ({"endpoint": {"image": "ghcr.io/huggingface/text-generation-inference:3"}},
     "endpoint.image", "RepositoryAccessMode"),
    ({"training": {"image": "sm-train:cpu"}}, "training.image", "no image in Amazon ECR"),
    ({"aws": {"training_role": "SageMakerRole"}}, "aws.training_role", "get-role --role-name"),
    ({"aws": {"training_role": "role/service-role/Mine"}}, "aws.hosting_role", "Mine"),
    ({"sagemaker": {"model": {"Tags": [{"Key": "AWS:x", "Value": "1"}]}}},
     "sagemaker.model.Tags.1.Key", "aws:"),
    ({"training": {"model": "org/name", "network": {"isolation": True}}},
     "training.network.isolation", "org/name"),
    ({"training": {"method": "distillation", "network": {"isolation": True}, "hyperparameters": {
        "teacher_model_name_or_path": "org/teacher"}}},
     "training.network.isolation", "org/teacher"),
    ({"sagemaker": {"model": {"EnableNetworkIsolation": True, "PrimaryContainer": {
        "Environment": {"HF_MODEL_ID": "org/served"}}}}},
     "sagemaker.model.EnableNetworkIsolation", "org/served"),
    ({"sagemaker": {"endpoint": {"DeploymentConfig": {"BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "LINEAR", "WaitIntervalInSeconds": 60,
            "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 5}}}}}}},
     "sagemaker.endpoint.DeploymentConfig", "choose 10"),
    ({"sagemaker": {"endpoint_config": {"ProductionVariants": [{"VariantName": "other-",
                                                                "ModelName": "m"}]}}},
     "sagemaker.endpoint_config.ProductionVariants.1.VariantName", "hyphen"),
    ({"training": {"instances": {"type": "ml.r5d.large", "volume_size_gb": 76}}},
     "training.instances.volume_size_gb", "choose ml.r5d.xlarge"),
    ({"endpoint": {"image": f"111122223333.dkr-ecr.us-east-1.on.aws/a/sm@sha256:{'a' * 64}"}},
     "endpoint.image", "us-east-1"),
    ({"training": {"image": "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/sm:1"}},
     "training.image", "cn-north-1"),
    ({"training": {"image": "111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu/sm:1"}},
     "training.image", "eusc-de-east-1"),
    ({"sagemaker": {"model": {"PrimaryContainer": None, "Containers": [
        {"Image": IMAGE}, {"Image": ABROAD}]}}},
     "sagemaker.model.Containers.1.Image", "us-east-1"),
    ({"aws": {"training_role": "arn:aws-cn:iam::111122223333:role/a/b"}},
     "aws.training_role", "eu-west-1 is in aws"),
    ({"aws": {"kms_key": "arn:aws:kms:us-east-1:111122223333:key/1"}}, "aws.kms_key", "us-east-1"),
    ({"endpoint": {"asynchronous": {"success_topic": "arn:aws:sns:eu-west-2:111122223333:a"}}},
     "endpoint.asynchronous.success_topic", "eu-west-2"),
    ({"sagemaker": {"training": {"ResourceConfig": {"InstancePreferences": [
        {"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlrge"}]}}}},
     "sagemaker.training.ResourceConfig.InstancePreferences", "ResourceConfig.InstanceType"),
    ({"sagemaker": {"training": {"ResourceConfig": {"InstancePreferences": [
        {"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlrge"}]}}}},
     "sagemaker.training.ResourceConfig.InstancePreferences.1.InstanceType", "ml.g6.xlarge"),
    ({"training": {"spot": True}, "sagemaker": {"training": {"StoppingCondition": {
        "MaxWaitTimeInSeconds": 60}}}},
     "sagemaker.training.StoppingCondition.MaxWaitTimeInSeconds", "less than"),
    ({"sagemaker": {"training": {"EnableManagedSpotTraining": True}}},
     "sagemaker.training.EnableManagedSpotTraining", "training.spot: true"),
    ({"sagemaker": {"transform": {"MaxConcurrentTransforms": 20}}}, "MaxPayloadInMB", "120"),
    ({"endpoint": {"environment": {f"V{i}": "x" * 1000 for i in range(33)}}},
     "endpoint.environment", "32768"),
    ({"endpoint": {"model": "s3://b/m/"}}, "endpoint.model", "compress_model: true"),
    ({"sagemaker": {"model_package": {"Tags": [{"Key": "team", "Value": "x"}]}}},
     "sagemaker.model_package.Tags", "tags of its group"),
    ({"training": {"channels": {"train": "s3://b/a.jsonl?versionId=3"}}},
     "training.channels.train", "key of its own"),
    ({"sagemaker": {"training": {"InputDataConfig": [{"ChannelName": "fsx", "DataSource": {
        "FileSystemDataSource": {"FileSystemId": "fs-1", "FileSystemType": "FSxLustre",
                                 "FileSystemAccessMode": "ro", "DirectoryPath": "/a"}}}]}}},
     "FileSystemDataSource", "training.network"),
    ({"endpoint": {"image": OURS, "instances": {"type": "ml.inf2.xlarge"}}},
     "endpoint.instances.type", "left idle"),
    ({"training": {"image": OURS, "instances": {"type": "ml.trn1.32xlarge"}}},
     "training.instances.type", "left idle"),
    ({"training": {"image": OURS, "instances": {"type": "ml.p3.2xlarge"}}},
     "training.instances.type", "too old"),
    ({"endpoint": {"image": OURS, "instances": {"type": "ml.m8g.large"}}},
     "endpoint.instances.type", "Arm"),
    ({"sagemaker": {"training": {"ResourceConfig": {"InstanceGroups": [
        {"InstanceGroupName": "a", "InstanceType": "ml.m5.large", "InstanceCount": 1}]}}}},
     "sagemaker.training.ResourceConfig.InstanceGroups", "setting it to null"),
    ({"training": {"channels": {"train": "s3://b/t/", "validation": "s3://b/v/"}}, "sagemaker": {
        "training": {"InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": {
            "InstanceGroupNames": ["a"]}}}]}}},
     "channel validation names no instance groups", "for each channel"),
    ({"endpoint": {"instances": {"type": "ml.m5.large"}, "fallback": [{"type": "ml.m5.xlarge"}]},
      "sagemaker": {"endpoint_config": {"ProductionVariants": [{"InstanceType": "ml.m5.large"}]}}},
     "endpoint.fallback", "cannot be beside ProductionVariants.0.InstanceType"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "key", "told"), CASES)
def test_what_aws_refuses_is_refused_here(sections: dict[str, Any], key: str, told: str) -> None:
    with pytest.raises(UserInputError) as refused:
        checked(job(**sections))
    assert key in str(refused.value)
    assert told in str(refused.value)


def test_every_rule_has_such_a_case_and_a_source() -> None:
    broken = set()
    for sections, _, _ in CASES:
        facts = facts_of(calls(job(**sections)), REGION)
        for operation, request in calls(job(**sections)):
            broken |= {
                number
                for number, rule in enumerate(refusals.RULES)
                if operation in rule.operations and list(rule.refusals(operation, request, facts))
            }
    assert broken == set(range(len(refusals.RULES)))
    places = ("Service model", "Developer guide", "General reference", "EC2 user guide")
    assert all(rule.source.startswith(places) for rule in refusals.RULES)


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("endpoint", {"update": {"strategy": "linear", "step_percent": 9}}, "between 10 and 50"),
        ("endpoint", {"variants": [{"name": "a-", "model_data": "s3://b/m"}]}, "hyphen"),
        ("endpoint", {"name": "mine-"}, "hyphen"),
        ("aws", {"tags": {"Aws:team": "x"}}, "AWS's own"),
        ("aws", {"tags": {"sm-launch:job": "x"}}, "finds its own things"),
        (
            "endpoint",
            {"variants": [{"name": "AllTraffic", "model_data": "s3://b/m"}]},
            "main model",
        ),
        ("aws", {"prefix": "//"}, "needs the name of a folder"),
        ("aws", {"bucket": "s3://mine"}, "pattern"),
        ("aws", {"region": "eu-central-1a"}, "pattern"),
        ("training", {"network": {"subnets": ["x"], "security_groups": ["sg-1"]}}, "pattern"),
    ],
)
def test_what_job_yaml_says_wrong_is_refused_as_it_is_read(
    section: str, values: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        job(**{section: values})


@pytest.mark.parametrize(
    ("training", "aws", "message"),
    [
        ({"environment": {"A": "x" * 600}}, {}, r"training\.environment\.A(?s:.*)most 512 char"),
        ({"environment": {"A-B": "x"}}, {}, r"training\.environment key(?s:.*)A-B"),
        (
            {"environment": {f"V{i}": "x" for i in range(101)}},
            {},
            r"training\.environment:(?s:.*)most 100 entries",
        ),
        (
            {
                "network": {
                    "subnets": [f"subnet-{i}" for i in range(17)],
                    "security_groups": ["sg-1"],
                }
            },
            {},
            r"training\.network\.subnets:(?s:.*)most 16 entries",
        ),
        ({}, {"kms_key": "my key"}, r"aws\.kms_key: must satisfy"),
        ({}, {"tags": {"k" * 200: "v"}}, r"aws\.tags\.k(?s:.*)most 128 characters"),
        ({}, {"tags": {f"k{i}": "v" for i in range(50)}}, r"aws\.tags:(?s:.*)most 50 entries"),
        ({}, {"tags": {"team": "a*b"}}, r"aws\.tags\.team:(?s:.*)'a\*b'"),
        ({"channels": {"train": "s3:///data"}}, {}, r"training\.channels\.train: must satisfy"),
    ],
)
def test_the_service_model_s_own_limits_hold_too(
    training: dict[str, Any], aws: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserInputError, match=message):
        checked(job(training=training, aws=aws))


def test_what_aws_takes_passes() -> None:
    assert (
        checked(job(training={"model": "org/name"}, endpoint={"update": {"strategy": "linear"}}))
        == []
    )
    private = {"AlgorithmSpecification": {
        "TrainingImage": "registry.corp/sm:1",
        "TrainingImageConfig": {"TrainingRepositoryAccessMode": "Vpc"}}}  # fmt: skip
    assert checked(job(sagemaker={"training": private})) == []
    assert checked(job(aws={"kms_key": "alias/mine"}, endpoint={"serverless": {}})) == []
    either = {"InstanceType": None, "InstanceCount": None, "InstancePreferences": [
        {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}]}  # fmt: skip
    assert checked(job(sagemaker={"training": {"ResourceConfig": either}})) == []
    pinned = f"111122223333.dkr-ecr.{REGION}.on.aws/team/sm:1@sha256:{'0' * 64}"
    assert checked(job(training={"image": pinned}, endpoint={"image": pinned})) == []
    (warning,) = checked(job(training={"instances": {"type": "ml.g99.xlarge"}}))
    assert "training.instances.type: the installed botocore does not know ml.g99.xlarge" in warning


def _types() -> dict[str, frozenset[str]]:
    validator = RequestValidator("sagemaker")
    return {
        refusals.TRAINING: frozenset(validator.values("ResourceConfig", "InstanceType")),
        refusals.PROCESSING: frozenset(validator.values("ProcessingClusterConfig", "InstanceType")),
        refusals.TRANSFORM: frozenset(validator.values("TransformResources", "InstanceType")),
        refusals.ENDPOINT_CONFIG: frozenset(validator.values("ProductionVariant", "InstanceType")),
    }


def test_no_instances_get_a_key_or_a_volume_that_they_have_no_room_for() -> None:
    """For whatever the service model names: defaults and a KMS key lead to no refusal."""
    facts = refusals.Facts(REGION, _types())
    settings = job(aws={"kms_key": KEY})
    known = sorted(set().union(*facts.types.values()))
    for kind in ["ml.c5d.large", "ml.g4dn.xlarge", *known[::9]]:
        settings.training.instances.type = settings.transform.instance_type = kind
        settings.endpoint.instances.type = kind
        settings.data = DataConfig.model_validate(
            {"input": "a.csv", "processing": {"instance_type": kind}}
        )
        for operation, request in calls(settings):
            wrong = [each.path for each in refusals.broken(operation, request, facts)]
            takes = kind in facts.types.get(operation, {kind})
            assert takes is not any(path.endswith("InstanceType") for path in wrong)
            assert all(path.endswith("InstanceType") for path in wrong)


def test_the_key_is_left_off_local_storage_and_this_is_told() -> None:
    told: list[str] = []
    config = job(
        aws={"kms_key": KEY},
        training={"instances": {"type": "ml.g5.xlarge", "volume_size_gb": 100}},
    )
    context = JobContext(
        config, "sagemaker", lambda message, *, warning=False: told.append(message)
    )
    training.check_early(context)
    training.check_early(context)
    request = training.example_request(context)
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]
    assert request["OutputDataConfig"]["KmsKeyId"] == KEY
    assert [line.partition(" ")[0] for line in told] == [
        "aws.kms_key", "training.instances.volume_size_gb:"
    ]  # fmt: skip


def test_the_table_of_local_storage_is_ec2_s() -> None:
    recorded = Path(moto.ec2.__file__).parent / "resources" / "instance_types.json.gz"
    described = json.loads(gzip.decompress(recorded.read_bytes()))
    known = set().union(*_types().values())
    sizes = {
        f"ml.{name}": facts["InstanceStorageInfo"]["TotalSizeInGB"]
        for name, facts in described.items()
        if f"ml.{name}" in known and "InstanceStorageInfo" in facts
    }
    assert local_storage.table() == sizes


def test_requests_of_a_deployment_with_everything_are_checked() -> None:
    config = job(endpoint={"components": {}, "update": {"strategy": "rolling"}})
    assert checked(config) == []
    assert requests.create_endpoint_config(config, "c", "m")["ExecutionRoleArn"] == LOCAL_ROLE
