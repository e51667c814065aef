"""`data prepare` on two machines that are processes here, joined by Ray: equal to one machine."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prepared_parts import check_equal

from sm_launch.data import DataConfig, prepare
from sm_launch.progress import no_progress

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is in the training image: tests/local_mode has it, too")

# Each machine is a directory: the paths are the same on all.
MACHINE = """
import sys
from pathlib import Path
from sm_launch.data import DataConfig, cluster, spread
from sm_launch.errors import LaunchError, UserInputError
current, first, second, port = sys.argv[1:]
members, config = cluster.Members(current, (first, second)), DataConfig(input="raw")
settings = {"port": int(port), "wait_seconds": 400}
try:
    if not members.leads:
        sys.exit(cluster.serve(members, **settings))
    with cluster.lead(members, config, Path("out"), **settings) as hosts:
        try:
            other = DataConfig(input="raw", columns={"label": "mood"})
            spread.prepare(other, Path("out"), hosts, tell=print)
        except UserInputError as error:
            print(error, Path("out").exists())
        spread.prepare(config, Path("out"), hosts, tell=print)
except LaunchError as error:
    sys.exit(str(error))
"""
NAMES = ("127.0.0.1", "127.0.0.2")


def run(root: Path) -> list[tuple[int, str]]:
    """Exit code and last words of each machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MACHINE, name, *NAMES, str(port)],
            cwd=root / name,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in NAMES
    ]
    said = [process.communicate(timeout=500)[0] for process in processes]
    return list(zip([process.returncode for process in processes], said, strict=True))


def lay(root: Path, name: str, text: str) -> None:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    (root / "raw" / name).write_text(text, encoding="utf-8")


def test_two_machines_prepare_what_one_does(tmp_path: Path) -> None:
    for at in range(4):
        lines = [f"row {n % 50} of any,{'good' if n % 2 else 'bad'}" for n in range(at * 25, 200)]
        text = "\n".join(["text,label", *lines, ",bad", "a,b,c"]) + "\n"
        lay(tmp_path / NAMES[at % 2], f"{at}.csv", text)
        lay(tmp_path / "one", f"{at}.csv", text)
    one = tmp_path / "one"
    prepare(DataConfig(input="raw"), one / "out", base_directory=one, progress=no_progress)
    ended = run(tmp_path)
    assert [code for code, _ in ended] == [0, 0], ended
    assert "127.0.0.2 2 file(s)" in ended[0][1]
    # What is wrong on another machine is told as on this one, and nothing is left of the try.
    assert "data.columns.label: no such column in raw/0.csv" in ended[0][1]
    assert "columns are: text, label" in ended[0][1] and "False" in ended[0][1]
    check_equal([tmp_path / name / "out" for name in NAMES], one / "out")
