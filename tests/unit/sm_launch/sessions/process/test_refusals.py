"""What cannot be run by processes is refused before anything starts, not silently changed."""

import pytest
from botocore.exceptions import ClientError

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.sessions.docker import DockerSession
from sm_launch.sessions.process import ProcessSession
from sm_launch.sessions.process.base import Settings

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@pytest.fixture
def session(tmp_path):
    settings = Settings(train_command=["true"], serve_command=["true"])
    return ProcessSession(tmp_path / "home", settings)


def training_request(tmp_path, **changes):
    data = tmp_path / "train"
    data.mkdir(exist_ok=True)
    (data / "a.txt").write_text("x")
    source = {"S3DataType": "S3Prefix", "S3Uri": data.as_uri()}
    return {
        "TrainingJobName": "job",
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": (tmp_path / "out").as_uri()},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


def channel(uri, **more):
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return [{"ChannelName": "train", "DataSource": {"S3DataSource": source}, **more}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "Pipe"}},
            "Pipe is not possible.*Use File or FastFile",
        ),
        (
            {
                "ResourceConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 2,
                    "VolumeSizeInGB": 1,
                }
            },
            "InstanceCount 2 is not possible",
        ),
        (
            {"CheckpointConfig": {"S3Uri": "file:///tmp/c", "LocalPath": "/data/c"}},
            "LocalPath '/data/c' is not possible",
        ),
        ({"InputDataConfig": channel("file:///nowhere/at/all")}, "No S3 objects found"),
        ({"InputDataConfig": channel("file:///tmp", CompressionType="Gzip")}, "Pipe mode only"),
    ],
)
def test_training_is_refused(session, tmp_path, changes, message):
    with pytest.raises(ClientError, match=message):
        session.create_training_job(**training_request(tmp_path, **changes))
    assert session.list_training_jobs()["TrainingJobSummaries"] == []


def test_s3_locations_are_refused_with_a_fix(session, tmp_path):
    request = training_request(tmp_path, InputDataConfig=channel("s3://bucket/train"))
    with pytest.raises(UserInputError, match="--target sagemaker"):
        session.create_training_job(**request)


def test_an_empty_channel_is_refused(session, tmp_path):
    (tmp_path / "empty").mkdir()
    request = training_request(tmp_path, InputDataConfig=channel((tmp_path / "empty").as_uri()))
    with pytest.raises(ClientError, match="the directory is empty"):
        session.create_training_job(**request)


def test_unknown_names_are_not_found(session):
    with pytest.raises(ClientError, match="Requested resource not found"):
        session.describe_training_job(TrainingJobName="nothing")
    with pytest.raises(ClientError, match="Could not find model"):
        session.delete_model(ModelName="nothing")
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        session.create_endpoint(EndpointName="e", EndpointConfigName="nothing")
    with pytest.raises(ClientError, match="Could not find endpoint"):
        session.invoke_endpoint(EndpointName="nothing", Body=b"")


class TestModels:
    def create(self, session, tmp_path, name="model", **container):
        (tmp_path / "model.tar.gz").write_bytes(b"")
        container = container or {"ModelDataUrl": (tmp_path / "model.tar.gz").as_uri()}
        session.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def test_create_describe_list_delete(self, session, tmp_path):
        self.create(session, tmp_path)
        described = session.describe_model(ModelName="model")
        assert described["ModelArn"].endswith(":model/model")
        assert described["PrimaryContainer"]["ModelDataUrl"].startswith("file://")
        assert [model["ModelName"] for model in session.list_models()["Models"]] == ["model"]
        with pytest.raises(ClientError, match="already existing model"):
            self.create(session, tmp_path)
        session.delete_model(ModelName="model")
        assert session.list_models()["Models"] == []

    @pytest.mark.parametrize(
        ("container", "message"),
        [
            ({"ModelDataUrl": "file:///nowhere/model.tar.gz"}, "Could not find model data"),
            ({"ModelDataUrl": "file:///tmp", "Mode": "MultiModel"}, "MultiModel"),
            ({"ModelPackageName": "package"}, "model packages"),
        ],
    )
    def test_refusals(self, session, tmp_path, container, message):
        with pytest.raises(ClientError, match=message):
            self.create(session, tmp_path, **container)

    @pytest.mark.slow
    def test_a_configuration_needs_its_model(self, session, tmp_path):
        variant = {
            "VariantName": "v",
            "ModelName": "model",
            "InitialInstanceCount": 1,
            "InstanceType": "ml.m5.large",
        }
        with pytest.raises(ClientError, match="Could not find model"):
            session.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        self.create(session, tmp_path)
        with pytest.raises(ClientError, match="VariantName must be unique"):
            session.create_endpoint_config(
                EndpointConfigName="c", ProductionVariants=[variant, variant]
            )
        session.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        listed = session.list_endpoint_configs()["EndpointConfigs"]
        assert [config["EndpointConfigName"] for config in listed] == ["c"]
        described = session.describe_endpoint_config(EndpointConfigName="c")
        assert described["ProductionVariants"] == [variant]
        session.delete_endpoint_config(EndpointConfigName="c")


def test_containers_are_refused_what_they_cannot_do(tmp_path):
    session = DockerSession(tmp_path / "home")
    hosts = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    request = training_request(tmp_path, ResourceConfig=hosts, EnableNetworkIsolation=True)
    with pytest.raises(LaunchError, match="cut off from the network cannot train together"):
        session.create_training_job(**request)
    with pytest.raises(LaunchError, match="sweeps do not run with the docker target"):
        session.create_hyper_parameter_tuning_job(HyperParameterTuningJobName="sweep")
