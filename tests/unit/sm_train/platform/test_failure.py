"""The failure file: the first cause, at most 1024 characters, also on a disk that is full."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sm_train.contract import Paths
from sm_train.platform.failure import give_back, reserve, write_failure


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few files."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(disk: Path) -> None:
    with pytest.raises(OSError) as caught, (disk / "checkpoint").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("reserved", [True, False])
def test_a_full_disk_still_takes_the_reason(small_disk: Path, reserved: bool) -> None:
    paths = Paths(small_disk)
    if reserved:
        reserve(paths)
        reserve(paths)  # the command and the entry both do
    fill(small_disk)
    write_failure(paths, "the disk is full ✗" + "…" * 2000)
    if not reserved:
        assert not paths.failure.is_file() or paths.failure.read_text() == ""
        return
    assert paths.failure.read_text().startswith("the disk is full ✗…")
    assert len(paths.failure.read_text()) == 1024
    assert list(paths.failure.parent.iterdir()) == [paths.failure]
    write_failure(paths, "its consequence")
    assert paths.failure.read_text().startswith("the disk is full")


def test_without_a_reserve_the_reason_is_written_all_the_same(tmp_path: Path) -> None:
    write_failure(Paths(tmp_path), "first")
    write_failure(Paths(tmp_path), "second")
    assert (tmp_path / "output" / "failure").read_text() == "first"


def test_a_job_that_succeeds_leaves_nothing(tmp_path: Path) -> None:
    reserve(Paths(tmp_path))
    give_back(Paths(tmp_path))
    assert list((tmp_path / "output").iterdir()) == []
