"""Tags come from the creation request and can be changed afterwards."""

import pytest
from botocore.exceptions import ClientError

from sm_launch.sessions.process import ProcessSession

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@pytest.fixture
def session(tmp_path):
    return ProcessSession(tmp_path / "home")


@pytest.fixture
def model_arn(session, tmp_path):
    answer = session.create_model(
        ModelName="model",
        PrimaryContainer={"ModelDataUrl": tmp_path.as_uri()},
        ExecutionRoleArn=ROLE,
        Tags=[{"Key": "sm-launch:job", "Value": "demo"}],
    )
    return answer["ModelArn"]


def tags(session, arn):
    return {tag["Key"]: tag["Value"] for tag in session.list_tags(ResourceArn=arn)["Tags"]}


def test_tags_are_added_replaced_and_deleted(session, model_arn):
    assert tags(session, model_arn) == {"sm-launch:job": "demo"}
    added = [{"Key": "team", "Value": "a"}, {"Key": "sm-launch:job", "Value": "other"}]
    session.add_tags(ResourceArn=model_arn, Tags=added)
    assert tags(session, model_arn) == {"sm-launch:job": "other", "team": "a"}
    session.delete_tags(ResourceArn=model_arn, TagKeys=["sm-launch:job", "unknown"])
    assert tags(session, model_arn) == {"team": "a"}
    assert "Tags" not in session.describe_model(ModelName="model")


def test_fifty_tags_are_the_most(session, model_arn):
    many = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    with pytest.raises(ClientError, match="51 tags are more than the 50"):
        session.add_tags(ResourceArn=model_arn, Tags=many)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sagemaker:local:000000000000:model/other",
        "arn:aws:sagemaker:eu-west-1:123456789012:model/model",
        "arn:aws:sagemaker:local:000000000000:notebook/model",
    ],
)
def test_unknown_resources_are_named(session, model_arn, arn):
    with pytest.raises(ClientError, match="Could not find resource"):
        session.list_tags(ResourceArn=arn)
