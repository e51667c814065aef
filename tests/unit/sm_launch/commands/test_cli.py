"""The command line: fast help, exit codes, clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sm_launch import cli
from sm_launch.job import hyperparameters
from sm_launch.job.config import load_config

HEAVY = ("boto3", "botocore", "pandas", "pyarrow", "sklearn", "matplotlib", "torch", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sm_launch import cli; cli.run(['--help']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.stderr.strip() == "[]"
    assert "Commands:" in finished.stdout


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.COMMANDS:
        assert cli.run([name, "--help"]) == 0, name
        assert "Usage: sm-launch" in capsys.readouterr().out


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_missing_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--target", "process"]) == 2
    assert "sm-launch init" in capsys.readouterr().err


def test_init_writes_a_valid_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text("id,Review,Sentiment\n1,good,pos\n")
    assert cli.run(["init", "--name", "mine", "--data", "reviews.csv"]) == 0
    config = load_config(Path("job.yaml"))
    assert config.name == "mine"
    assert config.data is not None
    assert (config.data.columns.text, config.data.columns.label) == ("Review", "Sentiment")
    assert cli.run(["init"]) == 2
    assert cli.run(["init", "--force", "--model", "org/other"]) == 0
    assert load_config(Path("job.yaml")).training.model == "org/other"


def test_every_commented_key_of_the_template_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes a `#` must get a working file."""
    monkeypatch.chdir(tmp_path)
    cli.run(["init"])
    lines = []
    for line in Path("job.yaml").read_text().splitlines():
        stripped = line.lstrip()
        code = stripped.removeprefix("# ")
        is_key = stripped.startswith("# ") and code.split(":")[0].strip().replace("_", "").isalpha()
        prose = (
            " " in code.split(":")[0].strip() or code[:1].isupper() or code.startswith("process")
        )
        alternative = code.startswith(("train: train.tsv", "validation: dev", "test: test.tsv"))
        if is_key and not prose and not alternative:
            line = line.replace("# ", "", 1)
        lines.append(line)
    Path("job.yaml").write_text("\n".join(lines))
    config = load_config(Path("job.yaml"), ("training.max_wait_seconds=null",))
    assert config.aws.bucket == "my-bucket"
    assert config.training.hyperparameters["use_peft"] is True
    assert config.evaluation.fail_under == {"accuracy": 0.85, "f1_macro": 0.8}
    hyperparameters.check_hyperparameters(config.training.method, config.training.hyperparameters)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "sm-launch" in script
    assert f"{shell}_complete" in script


def complete(
    command_line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("_SM_LAUNCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", command_line)
    monkeypatch.setenv("COMP_CWORD", str(command_line.count(" ")))
    with pytest.raises(SystemExit):
        cli.run([])
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


def test_commands_and_options_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete("sm-launch ev", monkeypatch, capsys) == ["evaluate"]
    completions = complete("sm-launch evaluate --fail", monkeypatch, capsys)
    assert completions == ["--fail-under", "--fail-over"]
    assert "upload" in complete("sm-launch data ", monkeypatch, capsys)


def leaves(command: click.Command, path: tuple[str, ...] = ()):
    """Every command that does something, with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from leaves(subcommand, (*path, name))
    else:
        yield path, command


def test_every_command_has_json() -> None:
    without = [
        " ".join(path)
        for path, command in leaves(cli.cli)
        if not any("--json" in parameter.opts for parameter in command.params)
    ]
    # A shell's script is for `eval`, and a conversation for people.
    assert set(without) <= {"completion", "chat"}


@pytest.mark.slow
def test_colour_only_on_a_terminal_and_never_with_no_color() -> None:
    import os
    import pty

    def output(environment: dict[str, str]) -> bytes:
        leader, follower = pty.openpty()
        clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-m", "sm_launch", "logs", "x", "--target", "process"],
            stdout=follower, stderr=follower, env={**clean, **environment}, check=False,
        )  # fmt: skip
        os.close(follower)
        return os.read(leader, 100_000)

    assert b"\x1b[31merror" in output({"TERM": "xterm"})
    assert b"\x1b[" not in output({"TERM": "xterm", "NO_COLOR": "1"})
    piped = subprocess.run(
        [sys.executable, "-m", "sm_launch", "logs", "x", "--target", "process"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert b"error:" in piped.stderr
    assert b"\x1b[" not in piped.stderr


def test_every_command_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()
    absent = [" ".join(path) for path, _ in leaves(cli.cli) if f"`{' '.join(path)}`" not in page]
    assert absent == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["invoke", "nothing", "--text", "hi"], "sm-launch deploy"),
        (["invoke", "nothing", "--text", "hi", "--stream"], "sm-launch deploy"),
        (["chat", "nothing"], "sm-launch deploy"),
        (["monitor", "nothing"], "sm-launch deploy"),
        (["logs", "nothing"], "sm-launch list"),
        (["stop", "nothing"], "sm-launch list"),
    ],
)
def test_an_unknown_name_gets_a_fix(
    command: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path))
    assert cli.run([*command, "--target", "process"]) == 1
    _, _, fix = capsys.readouterr().err.partition("fix: ")
    assert message in fix


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "expected"),
    [
        (["logs", "none"], 1, {"fix": "check the name with `sm-launch list --target process`"}),
        (["stop", "none"], 1, {"value": "none",
                               "fix": "check the name with `sm-launch list --target process`"}),
        (["weights", "none", "a=b"], 2, {"field": "a", "value": "b", "message": "is not a number"}),
        (["train", "-c", "missing.yaml"], 2, {"field": "--config", "value": "missing.yaml"}),
        (["train", "--nonsense"], 2, {"field": "--nonsense"}),
        (["delete", "--config"], 2, {"field": "--config"}),
        (["trian"], 2, {"field": None}),
    ],
)  # fmt: skip
def test_with_json_a_failure_is_an_object(
    command: list[str],
    code: int,
    expected: dict[str, str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path))
    place = [] if command[-1] == "--config" else ["--target", "process"]
    assert cli.run([command[0], "--json", *place, *command[1:]]) == code
    told = capsys.readouterr()
    assert told.out == ""
    error = json.loads(told.err.splitlines()[-1])["error"]
    assert set(error) == {"message", "field", "value", "fix", "exit_code"}
    assert error["exit_code"] == code
    assert error["message"]
    assert expected.items() <= error.items()


def test_an_interrupted_command_says_so_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupt)
    assert cli.run(["list", "--json"]) == 130
    assert json.loads(capsys.readouterr().err)["error"]["message"] == "interrupted"
    assert cli.run(["invoke", "x", "--", "--json"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_deleting_what_is_not_there_fails_and_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path))
    assert cli.run(["delete", "nothing", "--target", "process", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"deleted": [], "left": [], "missing": ["nothing"]}
    assert "there is no endpoint nothing (process)" in told.err


def test_any_error_takes_another_fix() -> None:
    """Also those whose constructor wants what they hold beside their text."""
    from sm_launch.evaluation.runner import EvaluationFailedError

    plain = EvaluationFailedError("14 of 14 rows failed", result=None, fix="mend them")
    other = plain.with_fix("look at the list")
    assert (type(other), other.fix, plain.fix) == (type(plain), "look at the list", "mend them")
    text = "evaluation.max_failed_share: 14 of 14 rows failed\n  fix: look at the list"
    assert str(other) == text
