"""Marks that need something of the machine: skipped with a reason that names what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ONE_AT_A_TIME = ("tests/local_mode/", "tests/contract/codebuild/")
"""They share the engine, its registry, and the one port of SageMaker's local mode."""

SLOW_FILE = re.compile(r"^pytestmark = (\[[^\]]*)?pytest\.mark\.slow\b", re.MULTILINE)

# How long an example takes is the machine's affair, not the code's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Test folders are no packages here: what several of them need is found by this.
sys.path.insert(0, str(Path(__file__).parent / "helpers"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How `pytest -n` shares tests out: a file's stay together, and so do all that use Docker."""
    from xdist.scheduler import LoadFileScheduling

    class FilesInTurn(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            docker = nodeid.startswith(ONE_AT_A_TIME)
            return "docker" if docker else str(super()._split_scope(nodeid))

    return FilesInTurn(config, log)


def _missing_docker() -> str | None:
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if answer.returncode:
        return f"no Docker Engine answers: {answer.stderr.strip().splitlines()[-1]}"
    return None


def _missing_gpu() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not installed: there is no NVIDIA GPU"
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return None if answer.returncode == 0 and answer.stdout else "nvidia-smi lists no GPU"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files whose every test is slow are not imported for the fast ones: most import torch."""
    if "not slow" not in config.option.markexpr or not collection_path.name.startswith("test_"):
        return None
    return True if SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for mark, missing in (("docker", _missing_docker), ("gpu", _missing_gpu)):
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = missing() if marked else None
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=f"{mark}: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def private_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the developer's AWS or Hub configuration, or reaches out by accident."""
    home = tmp_path_factory.mktemp("home")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    os.environ.update(
        AWS_SHARED_CREDENTIALS_FILE=str(home / "credentials"),
        AWS_CONFIG_FILE=str(home / "config"),
        AWS_EC2_METADATA_DISABLED="true",
        HF_HUB_OFFLINE="1",
        SM_LAUNCH_HOME=str(home / "state"),
        SM_LAUNCH_DEFAULTS="",
        SAGEMAKER_USER_CONFIG_OVERRIDE=str(home / "none.yaml"),
        SAGEMAKER_ADMIN_CONFIG_OVERRIDE=str(home / "none.yaml"),
    )
