"""What commands say of their own command line, and of questions that nobody can answer."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sm_launch.commands.evaluate import evaluate
from sm_launch.commands.options import JobOptions, agree
from sm_launch.commands.transform import _errors
from sm_launch.errors import UserInputError
from sm_launch.evaluation.job.compare import _short, run


def test_a_command_line_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report says how it was made: by all that was given, and by nothing that was not."""
    said: list[str] = []

    def command(**_: object) -> None:
        said.append(JobOptions.as_given())

    monkeypatch.setattr(evaluate, "callback", command)
    given = ["-c", "my job.yaml", "--model-data=m.tar.gz", "--slice=a", "--slice=b", "--load"]
    CliRunner().invoke(evaluate, given, prog_name="sm-launch evaluate", catch_exceptions=False)
    shown = "--config 'my job.yaml' --model-data m.tar.gz --slice a --slice b --load"
    assert said == [f"sm-launch evaluate {shown}"]


def test_a_question_without_a_terminal_says_what_to_give() -> None:
    @click.command()
    def ask() -> None:
        agree("Delete it?")
        click.echo("deleted")

    error = CliRunner().invoke(ask, input="").exception
    assert isinstance(error, UserInputError)
    assert error.fix == "agree by --yes"
    assert "deleted" in CliRunner().invoke(ask, input="y\n").stdout
    assert "deleted" not in CliRunner().invoke(ask, input="n\n").stdout


def test_lines_of_a_transform_that_are_errors_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a file").mkdir()
    (tmp_path / "a file" / "rows.out").write_text('{"label": "error"}\n{"error": {}}\n{"error": 1}')
    assert _errors((tmp_path / "a file").as_uri()) == 2
    assert _errors("s3://bucket/answers") == 0


def test_reports_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("old/report", "new/report", "seed-1", "seed-2"):
        (tmp_path / name).mkdir(parents=True)
    old, new, one, two = (
        str(tmp_path / name) for name in ("old/report", "new/report", "seed-1", "seed-2")
    )
    assert _short((old, new)) == ("old/report", "new/report")
    assert _short((one, two)) == ("seed-1", "seed-2")
    assert _short((one, "endpoint")) == ("seed-1", "endpoint")
    with pytest.raises(UserInputError, match="no name of an endpoint") as caught:
        run((str(tmp_path / "nowhere"), old), pytest.fail, output=tmp_path)
    assert "report directory" in str(caught.value.fix)
