"""HTML without templates: elements as function calls, and every plain string escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from sm_launch.redaction import redact

_WIDE = 4
"""So many columns are too wide for a narrow screen."""
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

    On a narrow screen the rows of one with many columns become lists, each cell behind the name of
    its column: nothing is cut off.
    """
    right = set(numeric)

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
            class_="wide" if len(head) >= _WIDE else None,
        ),
        class_="scroll",
        tabindex="0",
    )


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
