"""Both Dockerfiles are clean, and optional stages stay out of a normal build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sm_launch import images

ROOT = images.repository()
DOCKERFILES = [f"containers/{image}/Dockerfile" for image in images.IMAGES]


@pytest.mark.slow
@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_has_nothing_to_say(dockerfile):
    program = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run(
        [program, dockerfile], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_default_build_needs_no_optional_stage(dockerfile):
    text = (ROOT / dockerfile).read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    stages: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if stage_line := re.match(r"FROM (\S+)(?: AS (\S+))?$", line):
            parent = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], stage_line[1])
            name = stage_line[2] or "default"
            stages[name] = {parent}
        elif name:
            stages[name] |= set(re.findall(r"(?:--from=|from=)([\w-]+)", line))
    needed, todo = set(), ["default"]
    while todo:
        stage = todo.pop()
        needed.add(stage)
        todo += [each for each in stages.get(stage, ()) if each not in needed]
    assert {"final", "venv", "torch", "code", "tools", "python"} <= needed
    assert not needed & {
        "flash-attn",
        "flash-attn-compiler",
        "flash-attn-wheel",
        "efa",
        "runtime-on",
        "sbom",
    }


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_packages_are_installed_so_that_two_builds_are_equal(dockerfile):
    """By containers/debian-install: apt-get alone leaves times and caches of inode numbers."""
    text = (ROOT / dockerfile).read_text()
    assert not re.search(r"apt-get +(?:-\S+ +)*(?:install|upgrade)", text)
    calls = re.findall(r"^RUN (?:[^\n]*\\\n)*[^\n]*/mnt/debian-install", text, re.MULTILINE)
    assert len(calls) >= 3
    assert all("type=bind,from=scripts,target=/mnt" in call for call in calls)


def test_the_scripts_of_the_stages_are_valid_shell():
    scripts = ("containers/trim", "containers/lock", "containers/settle", "containers/cuda-home",
               "containers/debian-install", "containers/efa/build",
               "containers/flash-attn/install", "infra/builder",
               "tests/local_mode/flash_attn_subset.sh")  # fmt: skip
    for script in scripts:
        assert subprocess.run(["bash", "-n", ROOT / script], check=False).returncode == 0


@pytest.mark.slow
def test_what_two_installations_note_is_settled(tmp_path):
    """Two of one wheel, at different times, are the same files with the same times."""
    made = []
    for moment in (1, 22):
        notes = tmp_path / str(moment) / "site-packages" / "package-1.0.dist-info"
        notes.mkdir(parents=True)
        (notes / "uv_cache.json").write_text(f'{{"timestamp":{moment}}}')
        (notes / "RECORD").write_text(
            f"package/uv_cache.py,,\npackage-1.0.dist-info/uv_cache.json,sha256={moment},9\n"
        )
        subprocess.run([ROOT / "containers" / "settle", tmp_path / str(moment)], check=True)
        made.append({path.relative_to(tmp_path / str(moment)): (
            path.stat().st_mtime, path.read_text() if path.is_file() else None
        ) for path in sorted((tmp_path / str(moment)).rglob("*"))})  # fmt: skip
    assert made[0] == made[1]
    assert (notes / "RECORD").read_text() == "package/uv_cache.py,,\n"


@pytest.mark.slow
def test_the_vulnerability_report_tells_what_it_looked_up():
    report = images.audit("cpu")
    if report["skipped"]:
        pytest.skip(report["skipped"])
    assert len(report["unknown"]) < 20, "most packages are looked up"
    for each in report["vulnerabilities"]:
        assert each["id"]
        assert images.locked_versions(ROOT, "train", "cpu").get(each["package"])
