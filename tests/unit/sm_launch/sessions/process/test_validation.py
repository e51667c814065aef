"""Requests fail here as they would on SageMaker."""

import copy

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.sessions.validation import RequestValidator

REQUEST = {
    "TrainingJobName": "job-1",
    "HyperParameters": {"method": "sft"},
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::000000000000:role/local",
    "OutputDataConfig": {"S3OutputPath": "file:///tmp/output"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


@pytest.fixture(scope="module")
def validator():
    return RequestValidator("sagemaker")


def changed(path, value):
    request = copy.deepcopy(REQUEST)
    *parents, last = path.split(".")
    target = request
    for parent in parents:
        target = target[parent]
    target[last] = value
    return request


def test_a_good_request_passes(validator):
    validator.check("CreateTrainingJob", REQUEST)
    s3 = changed("OutputDataConfig.S3OutputPath", "s3://bucket/prefix")
    validator.check("CreateTrainingJob", s3)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("HyperParameters", {"epochs": 3}, "Invalid type for parameter HyperParameters.epochs"),
        ("TrainingJobName", 7, "Invalid type for parameter TrainingJobName"),
        ("Timeout", 5, 'Unknown parameter in input: "Timeout"'),
        ("StoppingCondition.MaxRuntimeInSeconds", 0, "MaxRuntimeInSeconds, value: 0"),
        ("OutputDataConfig", {}, 'Missing required parameter in OutputDataConfig: "S3OutputPath"'),
    ],
)
def test_a_wrong_shape_fails_as_in_botocore(validator, path, value, message):
    with pytest.raises(ParamValidationError, match=message) as caught:
        validator.check("CreateTrainingJob", changed(path, value))
    assert isinstance(caught.value, UserInputError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("TrainingJobName", "under_score", "'trainingJobName'.*regular expression pattern"),
        ("TrainingJobName", "x" * 64, "length less than or equal to 63"),
        ("ResourceConfig.InstanceType", "ml.g5.xlagre", "'resourceConfig.instanceType'.*enum"),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 21_601, "value less than or equal to 21600"),
        ("HyperParameters", {"key": "v" * 2501}, "'hyperParameters.key'.*2500"),
        ("HyperParameters", {f"k{n}": "" for n in range(101)}, "length less than or equal to 100"),
        ("OutputDataConfig.S3OutputPath", "/tmp/output", "'outputDataConfig.s3OutputPath'"),
        ("RoleArn", "arn:aws:iam::1:role/too-short", "'roleArn'"),
    ],
)
def test_a_value_out_of_bounds_fails_as_on_the_service(validator, path, value, message):
    with pytest.raises(ClientError, match=message) as caught:
        validator.check("CreateTrainingJob", changed(path, value))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.operation_name == "CreateTrainingJob"
    assert isinstance(caught.value, LaunchError)


def test_every_broken_constraint_is_named(validator):
    request = changed("TrainingJobName", "under_score")
    request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = 21_601
    with pytest.raises(ClientError, match="2 validation errors detected"):
        validator.check("CreateTrainingJob", request)


def test_local_modes_own_instance_types_pass(validator):
    validator.check("CreateTrainingJob", changed("ResourceConfig.InstanceType", "local"))


def test_headers_come_from_the_service_model():
    sent, received = RequestValidator("sagemaker-runtime").header_names("InvokeEndpoint")
    assert sent["CustomAttributes"] == "X-Amzn-SageMaker-Custom-Attributes"
    assert sent["TargetModel"] == "X-Amzn-SageMaker-Target-Model"
    assert "EndpointName" not in sent
    assert received["ContentType"] == "Content-Type"
