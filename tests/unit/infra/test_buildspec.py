"""buildspec.yml: its shell is valid, what it calls exists, and its own logic does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from sm_launch import cli, images

ROOT = Path(__file__).resolve().parents[3]
SPEC = yaml.safe_load((ROOT / "buildspec.yml").read_text())
PHASES = ["install", "pre_build", "build", "post_build"]
VARIABLES = {
    **SPEC["env"]["variables"],
    "REGISTRY": "127.0.0.1:5000",
    "TAG": "abc-b1",
    "flavor": "cpu",
    "options": "",
}


def commands(phase: str) -> list[str]:
    return SPEC["phases"][phase]["commands"]


def calls(program: str) -> list[list[str]]:
    """Arguments of every call of `program`, variables filled in, in order."""
    script = "\n".join(command for phase in PHASES for command in commands(phase))
    matches = re.findall(
        rf"^\s*{re.escape(program)} (.*?)(?: > .*| \|\| .*)?$", script, re.MULTILINE
    )
    return [shlex.split(_filled(call)) for call in matches]


def _filled(text: str) -> str:
    # ${CACHE:+…} stands for its words; the loop and the project set the other names.
    text = re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", text)
    return re.sub(r"\$(\w+)", lambda match: str(VARIABLES[match[1]]), text)


def bash(script: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=cwd,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_phases_are_those_that_codebuild_knows():
    assert list(SPEC) == ["version", "env", "phases", "reports", "artifacts"]
    assert SPEC["version"] == 0.2
    assert list(SPEC["phases"]) == PHASES
    assert {key for phase in SPEC["phases"].values() for key in phase} == {
        "runtime-versions",
        "commands",
    }


@pytest.mark.parametrize("phase", PHASES)
def test_the_shell_is_valid(phase):
    assert all(isinstance(command, str) for command in commands(phase))
    answer = bash(f"bash -n <<'SCRIPT'\n{chr(10).join(commands(phase))}\nSCRIPT")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_lint_and_tests_come_before_the_push():
    targets = [next(word for word in call if not word.startswith("-")) for call in calls("make")]
    assert targets == [
        *("setup-dev", "lint", "test-fast"),
        *("test", "test-vllm", "test-gpu-build", "push"),
    ]


@pytest.mark.parametrize(
    ("flavors", "vllm", "runs"),
    [
        ("cpu gpu", "yes", True),
        ("gpu", "yes", True),
        ("cpu gpu", "no", False),
        ("cpu", "yes", False),
    ],
)
def test_vllms_tests_run_where_an_image_has_it_and_end_a_build(flavors, vllm, runs):
    (step,) = [command for command in commands("post_build") if "test-vllm" in command]
    answer = bash(f"make() {{ echo $1; return 3; }}\n{step}", FLAVORS=flavors, VLLM=vllm)
    assert (answer.stdout, answer.returncode) == (("test-vllm\n", 3) if runs else ("", 0))


@pytest.mark.parametrize("call", calls("make"), ids=" ".join)
def test_make_knows_the_target(call):
    answer = subprocess.run(
        ["make", "--dry-run", *call], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    for word in call:
        name, _, value = word.partition("=")
        if name.isupper():  # a variable that the Makefile does not use would change nothing
            assert value in answer.stdout, f"make ignores {name}"


def test_the_launcher_knows_its_command():
    built, scanned = calls(".venv/bin/sm-launch")
    assert built[:6] == ["images", "build", "--flavor", "cpu", "--tag", "abc-b1"]
    assert scanned[-2:] == ["--fail-on", "none"]
    for call in (built, scanned):
        group = cli.cli.get_command(click.Context(cli.cli), call[0])
        assert isinstance(group, click.Group)
        context = group.commands[call[1]].make_context(call[1], call[2:])
        assert (context.params["flavor"], context.params["tag"]) == ("cpu", "abc-b1")


@pytest.mark.parametrize(
    ("vllm", "efa", "options"),
    [("yes", "no", ""), ("no", "no", "--no-vllm"), ("yes", "yes", "--efa"),
     ("no", "yes", "--no-vllm --efa")],
)  # fmt: skip
def test_vllm_and_efa_are_the_gpu_flavours(tmp_path, vllm, efa, options):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "sm-launch"
    program.write_text('#!/bin/bash\necho "$@"\n')
    program.chmod(0o755)
    (build,) = commands("build")
    answer = bash(build, tmp_path, FLAVORS="cpu gpu", TAG="v1", VLLM=vllm, EFA=efa)
    assert [" ".join(line.split()) for line in answer.stdout.splitlines()] == [
        "images build --flavor cpu --tag v1",
        f"images build --flavor gpu --tag v1 {options}".strip(),
    ]


def test_the_builder_pulls_through_the_cache_where_there_is_one(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text(
        '#!/bin/bash\n[ "$2" = create ] || exit 1\necho "$@"\n'
        'while [ "$1" != --config ]; do shift; done\ngrep mirrors "$2"\n'
    )
    docker.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    plain = bash("infra/builder b ''", PATH=path).stdout
    assert 'mirrors = ["public.ecr.aws/docker"]' in plain
    assert "--driver-opt" not in plain
    mirror = "1.dkr.ecr.eu-west-1.amazonaws.com/images-hub"
    cached = bash(f"infra/builder b {mirror}", PATH=path).stdout
    assert f'mirrors = ["{mirror}"]' in cached
    assert f"--driver-opt image={mirror}/moby/buildkit:" in cached


def test_the_gpu_run_takes_the_images_that_were_pushed():
    spec = yaml.safe_load((ROOT / "infra" / "gpu.buildspec.yml").read_text())
    script = "\n".join(each for phase in spec["phases"].values() for each in phase["commands"])
    assert bash(f"bash -n <<'SCRIPT'\n{script}\nSCRIPT").stderr == ""
    assert 'TAG="$TAG"' in script
    assert "name=TAG,value=$TAG" in "\n".join(commands("post_build"))


def test_the_tag_names_commit_and_build():
    (export,) = [command for command in commands("pre_build") if "TAG=" in command]
    answer = bash(f"{export}\necho $TAG", CODEBUILD_BUILD_NUMBER="7")
    tag = answer.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{12}-b7", tag)
    assert images.checked_tag(tag) == tag


def test_nothing_follows_a_failed_build():
    guard = commands("post_build")[0]
    assert bash(guard, CODEBUILD_BUILD_SUCCEEDING="0").returncode
    assert bash(guard, CODEBUILD_BUILD_SUCCEEDING="1").returncode == 0


def test_only_ecr_is_logged_in_to():
    (login,) = [command for command in commands("pre_build") if "docker login" in command]
    # Nothing is on this PATH: a login that is tried fails.
    assert bash(login, REGISTRY="127.0.0.1:5000", PATH="/nowhere").returncode == 0
    assert bash(login, REGISTRY="1.dkr.ecr.eu-west-1.amazonaws.com", PATH="/nowhere").returncode


def test_digests_are_exported(tmp_path):
    (tmp_path / "build" / "images").mkdir(parents=True)
    pushed = {}
    for flavor in images.FLAVORS:
        lines = [f"host:5000/sm-{name}@sha256:{flavor}{name}" for name in images.IMAGES]
        (tmp_path / "build" / "images" / f"{flavor}.txt").write_text("\n".join(lines) + "\n")
        for name, line in zip(images.IMAGES, lines, strict=True):
            pushed[f"{name.upper()}_IMAGE_{flavor.upper()}"] = line
    names = [name for name in SPEC["env"]["exported-variables"] if name != "TAG"]
    script = commands("post_build")[-1] + "".join(f'\necho "${name}"' for name in names)
    answer = bash(script, tmp_path, FLAVORS=SPEC["env"]["variables"]["FLAVORS"])
    assert dict(zip(names, answer.stdout.splitlines(), strict=True)) == pushed


def test_reports_and_artefacts_are_where_the_commands_write():
    script = "\n".join(command for phase in PHASES for command in commands(phase))
    assert script.count(f"--junitxml={SPEC['reports']['tests']['base-directory']}/") == 4
    assert f'> "{SPEC["artifacts"]["base-directory"]}/$flavor.txt"' in script
    for folder in (SPEC["reports"]["tests"], SPEC["artifacts"]):
        ignored = ["git", "check-ignore", "--quiet", f"{folder['base-directory']}/file"]
        # Otherwise the push refuses the tree as changed.
        assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0
