"""The shipped example, from its raw file to channels."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from sm_launch.data import prepare
from sm_launch.job.config import load_config
from sm_launch.progress import no_progress

from .conftest import Prepared

EXAMPLE = Path(__file__).parents[4] / "examples" / "sentiment"


def test_the_raw_file_can_be_made_again_byte_for_byte(tmp_path: Path) -> None:
    script = shutil.copy(EXAMPLE / "make_raw_data.py", tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "raw.csv").read_bytes() == (EXAMPLE / "raw.csv").read_bytes()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    config = load_config(EXAMPLE / "job.yaml", ()).data
    assert config is not None
    output = tmp_path_factory.mktemp("example") / "out"
    return Prepared(prepare(config, output, progress=no_progress, base_directory=EXAMPLE))


def test_no_row_is_lost(prepared: Prepared) -> None:
    report = prepared.report
    assert report.rows_read == len(prepared.all_rows) + len(prepared.rejected) >= 2000
    assert {row["reason"] for row in prepared.rejected} >= {
        "missing_text", "missing_label", "unknown_label", "malformed_row", "too_long",
        "duplicate", "conflicting_labels",
    }  # fmt: skip
    assert all(row["raw"] for row in prepared.rejected)


def test_channels_are_clean_stratified_and_disjoint(prepared: Prepared) -> None:
    rows = prepared.all_rows
    assert {row["label"] for row in rows} == {"negative", "neutral", "positive"}
    folded = [row["text"].casefold() for row in rows]
    assert len(set(folded)) == len(folded)
    dirt = ("<br", "<p>", "&amp;", "â€", "\u200b", "  ")
    assert not [row["text"] for row in rows for mark in dirt if mark in row["text"]]
    share = {
        split: sum(row["label"] == "positive" for row in prepared.rows(split))
        / len(prepared.rows(split))
        for split in ("train", "validation", "test")
    }
    assert max(share.values()) - min(share.values()) < 0.01
