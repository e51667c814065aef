"""What resources of every kind have in common."""

import pytest
from botocore.exceptions import ClientError

from sm_launch.sessions.process import ProcessSession
from sm_launch.sessions.process.store import Record

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"


@pytest.fixture
def session(tmp_path):
    session = ProcessSession(tmp_path / "home")
    container = {"ModelDataUrl": tmp_path.as_uri()}
    session.create_model(ModelName="model", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return session


def test_a_name_that_is_taken_or_unknown_is_said_with_its_arn(session, tmp_path):
    arn = session.describe_model(ModelName="model")["ModelArn"]
    with pytest.raises(ClientError, match=f'already existing model "{arn}"'):
        session.create_model(
            ModelName="model",
            PrimaryContainer={"ModelDataUrl": tmp_path.as_uri()},
            ExecutionRoleArn=ROLE,
        )
    session.delete_model(ModelName="model")
    with pytest.raises(ClientError, match=f'Could not find model "{arn}"'):
        session.delete_model(ModelName="model")
    assert session.list_models() == {"Models": []}


@pytest.mark.parametrize("document", ["request", "state"])
def test_what_goes_while_it_is_described_is_not_found(session, monkeypatch, document):
    read = Record.read

    def gone(record, what):
        if what == document:
            raise FileNotFoundError(str(record.path))
        return read(record, what)

    monkeypatch.setattr(Record, "read", gone)
    with pytest.raises(ClientError, match="Could not find model"):
        session.describe_model(ModelName="model")
