"""HTML without templates: elements as function calls, and every plain string escaped."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from sm_launch.redaction import redact
from sm_launch.report.names import width

_PHONE = 330.0
"""Pixels that a table has on a phone."""
_COLUMN, _CHARACTER, _WRAPPED = 12.0, 7.5, 16
"""Pixels between columns, of a character; and the characters of a line where text is wrapped."""
_RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RIGHT_TO_LEFT_RUN = re.compile(f"[{_RIGHT_TO_LEFT}](?:[{_RIGHT_TO_LEFT}\\s]*[{_RIGHT_TO_LEFT}])?")
VOID = frozenset({"meta", "br", "line", "rect", "circle", "path", "polyline"})


class Markup(str):
    """Text that is HTML already. Anything else is escaped when it becomes part of a page."""

    __slots__ = ()


def el(tag: str, *children: str | Iterable[str] | None, **attributes: str | float | None) -> Markup:
    """An element. `class_` gives class, `stroke_width` gives stroke-width, None is left out."""
    text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID and not children:
        return Markup(f"<{tag}{text}/>")
    return Markup(f"<{tag}{text}>{join(*children)}</{tag}>")


def join(*children: str | Iterable[str] | None) -> Markup:
    """Children one after another; None is nothing."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        elif child is not None:
            parts.append(join(*child))
    return Markup("".join(parts))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: Iterable[int] = (),
    caption: str | None = None,
) -> Markup:
    """A table; `numeric` columns are set right.

    On a narrow screen the rows of one that is too wide become lists, each cell below the name of
    its column: nothing is cut off.
    """
    right = set(numeric)
    rows = list(rows)

    def cell(tag: str, column: int, text: str, **attributes: str) -> Markup:
        return el(tag, text, class_="num" if column in right else None, **attributes)

    header = el("tr", (cell("th", i, text, scope="col") for i, text in enumerate(head)))
    body = (
        el("tr", (cell("td", i, text, data_label=head[i]) for i, text in enumerate(row)))
        for row in rows
    )
    return el(
        "div",
        el(
            "table",
            el("caption", caption) if caption else None,
            el("thead", header),
            el("tbody", body),
            class_=None if _fits_phone(head, rows, right) else "wide",
        ),
        class_="scroll",
        tabindex="0",
    )


def _fits_phone(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: set[int]) -> bool:
    def needed(column: int) -> int:
        cells = [row[column] for row in rows]
        parts = [head[column], *(cells if column not in numeric else ())]
        longest = max((width(part) for text in parts for part in text.split()), default=0)
        whole = max(map(width, cells), default=0)
        return max(longest, whole if column in numeric else min(whole, _WRAPPED))

    characters = sum(map(needed, range(len(head))))
    return characters * _CHARACTER + len(head) * _COLUMN <= _PHONE


def sentence(text: str) -> str:
    """A sentence of ours that quotes text of any script: what runs right to left stays a unit."""
    return _RIGHT_TO_LEFT_RUN.sub("\u2068\\g<0>\u2069", text)


def section(title: str, *children: str | Iterable[str] | None, note: str | None = None) -> Markup:
    """A titled part of a page, with a sentence that says how to read it."""
    return el("section", el("h2", title), el("p", note, class_="note") if note else None, *children)


def figure(title: str, graphic: Markup, *details: str) -> Markup:
    """A chart with its title above it."""
    return el("figure", el("figcaption", title), graphic, *details)


def image(drawing: Markup, *, width: int = 480) -> Markup:
    """A chart as an image that brings its style along, for pages that are not ours."""
    style = el("style", Markup(_style()))
    svg = drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    svg = svg.replace(">", f">{style}", 1)
    data = b64encode(svg.encode()).decode()
    return el("img", src=f"data:image/svg+xml;base64,{data}", width=width)


def _style() -> str:
    return files("sm_launch.report").joinpath("style.css").read_text(encoding="utf-8")


def page(title: str, *body: str | Iterable[str] | None) -> str:
    """A whole document that needs nothing else: style inside, no script, no request."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(_style())),
    )
    document = el("html", head, el("body", el("main", *body)), lang="en")
    return f"<!doctype html>\n{redact(document)}\n"


def _plain(value: str | float | None) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
