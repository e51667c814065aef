"""What a notebook's cell shows: one output that changes, and never a widget."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sm_launch import notebook
from sm_launch.progress import progress


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Jupyter kernel as IPython presents it; every content of its one output."""
    shown: list[str] = []

    def display(content: str, *, display_id: bool) -> Any:
        assert display_id
        assert not shown, "a second output"
        shown.append(content)
        return SimpleNamespace(update=shown.append)

    shell = SimpleNamespace(kernel=object())
    module = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return shown


def test_a_bar_is_one_output(cell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading <rows>", 100) as bar:
        for _ in range(100):
            bar.advance()
    assert "Reading &lt;rows&gt;" in cell[0]
    assert '<progress value="100" max="100">' in cell[-1]
    assert len(cell) < 5  # a few times a second at most
    assert capsys.readouterr().err == ""


def test_a_program_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shell in (None, SimpleNamespace()):  # Python, and IPython on a terminal
        module = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert not notebook.in_notebook()
    monkeypatch.setattr("sm_launch.progress.SECONDS_BETWEEN_LOG_LINES", 0.0)
    with progress("Reading", 2) as bar:
        bar.advance()
    assert capsys.readouterr().err.startswith("Reading 1/2 [")


def test_what_a_terminal_shows_is_html_without_its_text_being_any() -> None:
    from rich.text import Text

    html = notebook.rendered(Text("<b>bold</b>", style="red"))
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert html.startswith("<pre")
