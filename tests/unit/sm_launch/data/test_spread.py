"""Several machines make what one makes: with the files in any hands, and any damage in them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_parts import check_equal

from sm_launch.data import DataConfig, prepare, spread
from sm_launch.data.host import Host
from sm_launch.data.report import PreparationReport
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.progress import no_progress

Files = Mapping[str, str]


class Here:
    """Machines as directories, each with some of the files."""

    def __init__(self, root: Path, config: DataConfig, shares: Mapping[str, Files]) -> None:
        self.names = list(shares)
        self.told: list[str] = []
        self._hosts = {}
        for name, files in shares.items():
            (root / name).mkdir()
            lay(root / name, files)
            self._hosts[name] = Host(config, Path("out"), root / name)

    def call(self, host: str, method: str, *arguments: Any) -> Any:
        return self._hosts[host].call(method, *arguments)


def lay(directory: Path, files: Files) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def on_several(
    root: Path, shares: Mapping[str, Files], **data: Any
) -> tuple[PreparationReport, list[str]]:
    config = DataConfig.model_validate({"max_rejected_share": 0.99} | data)
    told: list[str] = []
    hosts = Here(root, config, shares)
    report = spread.prepare(
        config, root / hosts.names[0] / "out", hosts, progress=no_progress, tell=told.append
    )
    return report, told


def on_one(root: Path, files: Files, **data: Any) -> PreparationReport:
    lay(root / "one", files)
    config = DataConfig.model_validate({"max_rejected_share": 0.99} | data)
    return prepare(config, root / "one/out", progress=no_progress, base_directory=root / "one")


def compare(root: Path, shares: Mapping[str, Files], **data: Any) -> PreparationReport:
    """Prepare on one and on several machines; fails where the bytes differ."""
    files = {name: text for share in shares.values() for name, text in share.items()}
    one = on_one(root, files, **data)
    several, _ = on_several(root, shares, **data)
    outs = [root / host / "out" for host in shares]
    check_equal(outs, root / "one/out")
    for split in several.splits.values():
        assert list(split.parts) == sorted(split.parts)
    assert (several.notes, several.rejected) == (one.notes, one.rejected)
    return several


def table(*rows: str) -> str:
    return "\n".join(["text,label,user,when", *rows]) + "\n"


def rows(start: int, stop: int, name: str) -> list[str]:
    labels = ("good", "bad", "Bad", "so-so")
    return [
        f"{name} is number {n} of them,{labels[n % 4]},user {n % 7},2026-01-{n % 28 + 1:02}"
        for n in range(start, stop)
    ]


SHARES = {
    "algo-1": {
        "raw/b.csv": table(
            *rows(0, 40, "apple"), "a,b,c,d,e", "Twice  here,good,user 1,2026-01-01"
        ),
        "raw/d.csv": table(*rows(20, 60, "apple"), "tie,good,user 2,2026-01-02", ",bad,user 1,x"),
    },
    "algo-2": {
        "raw/a.csv": table("twice HERE,good,user 9,2026-02-01", "tie,bad,user 3,2026-01-03"),
        "raw/c.csv": table(
            *rows(0, 90, "pear"), "twice here,bad,user 1,2026-01-05", "x,NA,user 1,y"
        ),
    },
    "algo-3": {},
}
"""Duplicates, a tie, groups and bad rows across machines of unlike shares; one has no file."""


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"duplicates": {"exact": "keep", "conflicting": "first"}},
        {"duplicates": {"near": 0.7}},
        {"split": {"group": "user"}, "columns": {"keep": ["user"]}},
        {"split": {"time": "when"}},
        {"balance": {"ratio": 1.2}, "output_format": "csv"},
        {"output_format": "parquet", "columns": {"keep": ["when"]}},
    ],
    ids=str,
)
def test_several_machines_write_what_one_writes(tmp_path: Path, data: dict[str, Any]) -> None:
    report = compare(tmp_path, SHARES, input="raw", **data)
    assert {"malformed_row", "missing_text"} <= set(report.rejected)
    assert report.rows_rejected > 3


def test_ready_splits_on_other_machines_are_kept_apart(tmp_path: Path) -> None:
    shares = {
        "algo-1": {
            "train/b.csv": table(*rows(0, 60, "apple")),
            "test.csv": table(*rows(50, 90, "apple")),
        },
        "algo-2": {"train/a.csv": table(*rows(0, 60, "pear"), *rows(80, 85, "apple"))},
    }
    report = compare(tmp_path, shares, train="train", test="test.csv")
    assert report.rejected["leak"] == 15


def test_a_file_that_every_machine_has_is_prepared_once(tmp_path: Path) -> None:
    files = {f"raw/{n}.csv": table(*rows(n * 30, n * 30 + 30, "fig")) for n in range(4)}
    report, told = on_several(tmp_path, {"algo-1": files, "algo-2": files}, input="raw")
    assert report.rows_read == 120
    assert told == ["2 machines: algo-1 2 file(s), 0.0 MiB; algo-2 2 file(s), 0.0 MiB"]


TEXTS = st.sampled_from(["one", "ONE ", "two", "three", "four", "five", "", "n/a", "é\U0001f600"])
ROWS = st.lists(
    st.tuples(TEXTS, st.sampled_from(["x", "y", "X", "", "NA", "z"]), st.integers(0, 3)),
    min_size=0,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(ROWS, st.integers(0, 2)), min_size=1, max_size=5),
    st.sampled_from([{}, {"group": "user"}, {"stratify": False}]),
    st.integers(0, 99),
)
def test_any_rows_in_any_hands(files: Any, split: dict[str, Any], seed: int) -> None:
    shares: dict[str, dict[str, str]] = {f"algo-{n}": {} for n in range(3)}
    for at, (raw, host) in enumerate(files):
        lines = [f"{text},{label},u{user},2026-01-01" for text, label, user in raw]
        shares[f"algo-{host}"][f"raw/{at}.csv"] = table(*lines)
    data = {"input": "raw", "split": {"seed": seed, **split}}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        try:
            compare(root, shares, **data)
        except UserInputError as several:
            # Data that one machine refuses is refused in the same way.
            whole = {name: text for share in shares.values() for name, text in share.items()}
            with pytest.raises(UserInputError) as one:
                on_one(root, whole, **data)
            assert several.message == one.value.message
            with pytest.raises(UserInputError) as again:
                on_several(root, {f"{host}-2": own for host, own in shares.items()}, **data)
            assert again.value.message == one.value.message


def test_bad_rows_beyond_the_limit_are_left_on_each_machine(tmp_path: Path) -> None:
    shares = {
        "algo-1": {"raw/a.csv": table(*rows(0, 9, "apple"), ",good,u,2026-01-01")},
        "algo-2": {"raw/b.csv": table(*rows(0, 9, "pear"), ",bad,u,2026-01-01")},
    }
    with pytest.raises(UserInputError, match=r"2 of 20 rows \(10.0%\) are bad"):
        on_several(tmp_path, shares, input="raw", max_rejected_share=0.05)
    for host in shares:
        (left,) = (tmp_path / host / "out.rejected").iterdir()
        assert '"missing_text"' in left.read_text()
        assert sorted(p.name for p in (tmp_path / host).iterdir()) == ["out.rejected", "raw"]


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ({"algo-1": {}, "algo-2": {}}, "none of 2 machines has it"),
        ({"algo-1": {"raw/a.csv": "text,label\n"}, "algo-2": {}}, "the file has no rows"),
        ({"algo-1": {"raw/a.csv": "text\nx\n"}, "algo-2": {}}, "no such column"),
        (
            {"algo-1": {"raw/a.csv": table("x,y,z,1")}, "algo-2": {"raw/b.jsonl": "{}"}},
            "files of several formats",
        ),
        (
            {"algo-1": {"raw/train.csv": table()}, "algo-2": {"raw/test.csv": table()}},
            "holds splits that somebody made",
        ),
        (
            {"algo-1": {"raw/a.csv": table()}, "algo-2": {"raw/a.csv": table("x,y,z,1")}},
            "another one on each machine",
        ),
    ],
)
def test_what_is_wrong_is_said_by_the_first_machine(
    tmp_path: Path, shares: dict[str, Files], problem: str
) -> None:
    with pytest.raises(UserInputError, match=problem):
        on_several(tmp_path, shares, input="raw")
    assert not list(tmp_path.glob("*/out"))
    assert not list(tmp_path.glob("*/.out-*"))


def test_a_machine_that_goes_ends_the_preparation(tmp_path: Path) -> None:
    class Mortal(Here):
        def call(self, host: str, method: str, *arguments: Any) -> Any:
            if (host, method) == ("algo-2", "write"):
                raise LaunchError("the machine algo-2 has gone")
            return super().call(host, method, *arguments)

    config = DataConfig(input="raw")
    shares = {name: files for name, files in SHARES.items() if files}
    hosts = Mortal(tmp_path, config.model_copy(update={"max_rejected_share": 0.9}), shares)
    told: Callable[[str], None] = [].append
    with pytest.raises(LaunchError, match="algo-2 has gone"):
        spread.prepare(config, tmp_path / "algo-1/out", hosts, progress=no_progress, tell=told)
    assert not (tmp_path / "algo-1/out").exists()
