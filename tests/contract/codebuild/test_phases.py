"""buildspec.yml's phases, run in order as CodeBuild does, against a registry on this machine."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from engine_images import forget

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[3]
REGISTRY = os.environ.get("REGISTRY_ADDR", "127.0.0.1:5000")
# One test of each kind, for all of them run beside this one; the other files are not even read.
SELECTED = (
    "tests/unit/sm_launch/images/test_images.py tests/local_mode/test_training.py "
    "-k 'test_the_locks_pin_the_stack or test_a_failure_tells'"
)


@pytest.fixture
def checkout(tmp_path):
    """A clean clone of the commit that uses this environment's packages but its own code."""
    clone = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / ".venv").symlink_to(sys.prefix)
    (clone / ".git" / "info" / "exclude").write_text(".venv\n")
    # Older than .venv, so that make installs nothing again.
    for path in clone.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    return clone


@pytest.fixture
def number():
    """Of the build, and part of its images' tags: the engine forgets these images afterwards."""
    made = str(time.time_ns())
    yield made
    forget(f"-b{made}-")


def _environment(checkout: Path) -> dict[str, str]:
    packages = (checkout, checkout / "containers" / "train", checkout / "containers" / "serve")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTEST_ADDOPTS": SELECTED,
        "TEST_WORKERS": "0",  # so few tests need no processes of their own
        "REGISTRY": REGISTRY,
        # The types of all packages take a minute to read; `make lint` here has done it.
        "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache"),
        "FLAVORS": "cpu",
        # The engine's own builder: it sees the base image of this machine, and it keeps no cache
        # in a registry.
        "BUILDX_BUILDER": "default",
        "CACHE": "",
        # As the other tests build: their layers are taken again.
        "IMAGE_UPDATES": f"{datetime.now(UTC):%G-W%V}",
        "CODEBUILD_BUILD_SUCCEEDING": "1",
    }


def _registry_answers() -> bool:
    host, _, port = REGISTRY.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_the_phases_end_with_images_that_can_be_pulled(checkout, number, capsys):
    if not _registry_answers():
        pytest.skip(f"no registry answers at {REGISTRY} (.ci/docker-engine starts one)")
    spec = yaml.safe_load((checkout / "buildspec.yml").read_text())
    build = {"CODEBUILD_BUILD_NUMBER": number}
    environment = {**spec["env"]["variables"], **_environment(checkout), **build}
    steps = [
        step
        for name, phase in spec["phases"].items()
        for step in (
            *(f"{{ {command.rstrip()}\n}} || exit 1" for command in phase["commands"]),
            f'echo "SINCE THE START: {name} $SECONDS s"',
        )
    ]
    exported = [f'echo "EXPORTED {name}=${name}"' for name in spec["env"]["exported-variables"]]
    answer = subprocess.run(
        ["bash", "-c", "\n".join([*steps, *exported])],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    with capsys.disabled():
        print("\n" + "\n".join(re.findall("^SINCE THE START: .*", answer.stdout, re.MULTILINE)))

    values = dict(
        line.removeprefix("EXPORTED ").partition("=")[::2]
        for line in answer.stdout.splitlines()
        if line.startswith("EXPORTED ")
    )
    digests = (checkout / "build" / "images" / "cpu.txt").read_text().split()
    assert digests == [values["TRAIN_IMAGE_CPU"], values["SERVE_IMAGE_CPU"]]
    written = sorted(each.name for each in (checkout / "build" / "images").glob("*.cdx.json"))
    assert written == [f"sm-{image}-{values['TAG']}-cpu.cdx.json" for image in ("serve", "train")]
    local = [f"{place}sm-{image}:{values['TAG']}-cpu"
             for image in ("train", "serve") for place in ("", f"{REGISTRY}/")]  # fmt: skip
    subprocess.run(["docker", "rmi", *local], check=True, capture_output=True)
    for digest in digests:
        subprocess.run(["docker", "pull", "--quiet", digest], check=True, capture_output=True)
        subprocess.run(["docker", "rmi", digest], check=True, capture_output=True)
    for report in ("fast", "images"):
        (suite,) = ElementTree.parse(checkout / "build" / "reports" / f"{report}.xml").getroot()
        counts = {key: int(suite.attrib[key]) for key in ("tests", "skipped", "failures")}
        assert counts["tests"] > counts["skipped"] == counts["failures"] == 0
