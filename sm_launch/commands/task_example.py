"""The examples, one folder a task: what `sm-launch init --task` starts from."""

from __future__ import annotations

import re
import shutil
from difflib import get_close_matches
from pathlib import Path

import yaml

from sm_launch.errors import UserInputError

JOB = "job.yaml"
_NOT_COPIED = frozenset({JOB, "README.md", "build", "model", "demo", "make_raw_data.py"})
_OF_ITS_ROWS = (
    r"^  labels: .*\n",
    r"^  label_map: .*\n",
    r"^evaluation:\n  fail_under: .*\[.*\n",  # a gate on one of its classes
)


def names() -> list[str]:
    """Of all examples, in the order of the alphabet."""
    return sorted(path.parent.name for path in _folder().glob(f"*/{JOB}"))


def _folder() -> Path:
    """As the wheel holds it, or in the checkout that the launcher runs from."""
    copy = Path(__file__).parents[1] / "examples"
    return copy if copy.is_dir() else Path(__file__).parents[2] / "examples"


def example(task: str) -> Path:
    """The folder of a task's example.

    Raises:
        UserInputError: there is none; the nearest one is suggested.
    """
    known = names()
    if task not in known:
        close = get_close_matches(task, known, n=1)
        raise UserInputError(
            "there is no example of this task",
            field="--task",
            value=task,
            fix=f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}",
        )
    return _folder() / task


def method(task: str) -> str:
    """How the example trains."""
    document = yaml.safe_load((example(task) / JOB).read_text(encoding="utf-8"))
    return str(document["training"]["method"])


def adapted(task: str, lines: dict[str, str]) -> str:
    """The example's job.yaml with other lines.

    Args:
        task: of the example.
        lines: key, with the blanks before it, to the line in its place, or to nothing where it is
            to go. `  columns` stands behind `input`, and hyperparameters first among theirs, where
            the example has none. With another `input` what names the example's own labels goes.
    """
    text = (example(task) / JOB).read_text(encoding="utf-8")
    if "  input" in lines:
        for pattern in _OF_ITS_ROWS:
            text = re.sub(pattern, "", text, flags=re.MULTILINE)
    for key, line in lines.items():
        own = re.compile(rf"^{key}: .*\n", re.MULTILINE)
        if not own.search(text):
            before = "  input: " if key == "  columns" else "  hyperparameters:"
            key_line = re.compile(rf"^({before}.*\n)", re.MULTILINE)
            text = key_line.sub(rf"\1{key}: \n" if line else r"\1", text, count=1)
        text = own.sub(f"{line}\n".replace("\\", "\\\\") if line else "", text, count=1)
    return text


def copy_files(task: str, target: Path, *, rows: bool = True, force: bool) -> list[Path]:
    """The example's raw file (with `rows`) and code, beside job.yaml; returns what was written.

    Raises:
        UserInputError: something of that name is there already.
    """
    sources = [p for p in sorted(example(task).iterdir()) if p.name not in _NOT_COPIED]
    sources = [p for p in sources if rows or (p.stem != "raw" and p.suffix != ".ipynb")]
    taken = [target / path.name for path in sources if (target / path.name).exists()]
    if taken and not force:
        raise UserInputError(
            "is there already",
            field="--output",
            value=str(taken[0]),
            fix="choose another directory, name your own --data, or overwrite it with --force",
        )
    for path in sources:
        if path.is_dir():
            shutil.copytree(path, target / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, target / path.name)
    return [target / path.name for path in sources]
