"""What each container of a Processing job on several machines is told, and tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sm_launch.data.cluster import Members
from sm_launch.errors import LaunchError
from sm_launch.jobs import processing_host


def test_the_first_machine_leads(tmp_path: Path) -> None:
    path = tmp_path / "resourceconfig.json"
    hosts = ["algo-2", "algo-10", "algo-1"]
    path.write_text(json.dumps({"current_host": "algo-2", "hosts": hosts}))
    members = Members.read(path)
    assert (members.leader, members.leads) == ("algo-1", False)
    path.write_text(json.dumps({"current_host": "algo-1", "hosts": hosts}))
    assert Members.read(path).leads


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"current_host": "algo-1"}'])
def test_a_machine_that_is_told_nothing_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "resourceconfig.json"
    path.write_text(text)
    with pytest.raises(LaunchError, match="does not tell the machines of this job"):
        Members.read(path)


def test_the_job_tells_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processing_host, "MESSAGE", tmp_path / "message")
    assert processing_host.main([str(tmp_path / "job.yaml")]) == 1
    assert "does not tell the machines" in capsys.readouterr().err
    assert "does not tell the machines" in (tmp_path / "message").read_text()
