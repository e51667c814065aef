"""docs/environment.md names every variable that a user may set, as the code has it."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Between our own processes, or of the dynamic linker: nobody sets them.
BETWEEN_PROCESSES = re.compile(
    r"RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|TORCHELASTIC_RUN_ID|SM_TRAIN_\w+|LD_LIBRARY_PATH"
)


def read_variables(path: Path) -> Iterator[str]:
    """Names that a module takes from `os.environ`."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            name = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = node.slice if isinstance(node.ctx, ast.Load) else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value


def test_the_page_is_what_the_settings_say() -> None:
    made = runpy.run_path(str(ROOT / "infra" / "generate_environment.py"))
    assert (ROOT / "docs" / "environment.md").read_text() == made["render"](), (
        "run .venv/bin/python infra/generate_environment.py"
    )


@pytest.mark.slow
def test_it_names_every_variable_that_a_container_reads() -> None:
    page = (ROOT / "docs" / "environment.md").read_text()
    packages = (ROOT / "containers/train/sm_train", ROOT / "containers/serve/sm_serve")
    files = (file for package in packages for file in package.rglob("*.py"))
    names = {name for file in files for name in read_variables(file)}
    assert "SAGEMAKER_BASE_DIR" in names
    missing = {name for name in names if f"`{name}`" not in page}
    assert {name for name in missing if not BETWEEN_PROCESSES.fullmatch(name)} == set()
