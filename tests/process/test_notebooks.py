"""The notebooks under examples/ run from their first cell to their last."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
# Two steps in place of some hundreds: it is the notebook that is tested.
OVERRIDES = 'overrides = ["training.hyperparameters.max_steps=2"]'


@pytest.mark.parametrize("name", ["sentiment"])
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    ignored = shutil.ignore_patterns("build")
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored)
    raw = (folder / "raw.csv").read_text().splitlines(keepends=True)
    (folder / "raw.csv").write_text("".join(raw[:400]))
    notebook = nbformat.read(folder / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "saved with its outputs"
    (first,) = (cell for cell in notebook.cells if "overrides = []" in cell.source)
    first.source = re.sub(r"overrides = \[\].*", OVERRIDES, first.source)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    shown = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    (training,) = (outputs for source, outputs in shown.items() if "sm_launch.train(" in source)
    pages = [
        output.data["text/html"] for output in training if "text/html" in output.get("data", {})
    ]
    assert len(pages) == 1, "the live view is one output"
    assert "Training" in pages[0]
    (measured,) = (outputs for source, outputs in shown.items() if "evaluate(" in source)
    assert any("accuracy" in output.get("data", {}).get("text/html", "") for output in measured)
