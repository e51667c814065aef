"""The data card: what a preparation made of the raw files, as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sm_launch.data.write import REJECTED, REJECTED_PARTS
from sm_launch.report.charts import bar_chart
from sm_launch.report.html import Markup, el, figure, join, page, section, table
from sm_launch.report.stacks import TOLD_APART, Stack, share_chart

LABELS_SHOWN = 25
SHA_SHOWN = 16
_LENGTHS = ("mean", "p50", "p90", "p99", "max")
_LEFT_OUT = ("input", "train", "validation", "test")
"""Keys of the configuration that the table of inputs shows."""


def render_data_card(manifest: Mapping[str, Any]) -> str:
    """The page for a manifest.json; the same manifest gives the same page."""
    counts = manifest["counts"]
    names = ", ".join(dict.fromkeys(str(i["location"]) for i in manifest["inputs"].values()))
    return page(
        "Data card",
        el(
            "header",
            el("h1", "Data card"),
            el("p", f"{manifest['task']} from {_short(names)}", class_="sub"),
        ),
        _tiles(manifest, counts),
        _balance(manifest),
        _lengths(manifest),
        _rejected(manifest, counts),
        _readings(manifest),
        _files(manifest),
        _settings(manifest),
    )


def _tiles(manifest: Mapping[str, Any], counts: Mapping[str, int]) -> Markup:
    share = counts["rejected"] / counts["read"] if counts["read"] else 0.0
    values = [
        ("Rows read", f"{counts['read']:,}", f"{len(manifest['inputs'])} file(s)"),
        ("Rows kept", f"{counts['kept']:,}", "in all splits"),
        (
            "Rejected rows",
            f"{counts['rejected']:,}",
            f"{share:.1%}, in {_rejected_rows(manifest)}",
        ),
    ]
    if manifest["labels"]:
        largest, smallest = _extremes(manifest["splits"].get("train", {}))
        more = f"largest to smallest {largest / smallest:.1f}" if smallest else "in all splits"
        values.append(("Labels", f"{len(manifest['labels']):,}", more))
    tiles = [
        el(
            "div",
            el("span", name, class_="name"),
            el("span", value, class_="value"),
            el("span", more, class_="more"),
            class_="tile",
        )
        for name, value, more in values
    ]
    return el("div", tiles, class_="tiles")


def _rejected_rows(manifest: Mapping[str, Any]) -> str:
    """Where the rejected rows are, beside this page."""
    parts = any(split.get("parts") for split in manifest["splits"].values())
    return f"{REJECTED_PARTS}/" if parts else REJECTED


def _extremes(split: Mapping[str, Any]) -> tuple[int, int]:
    counts = list((split.get("labels") or {}).values())
    return (max(counts), min(counts)) if counts else (0, 0)


def _balance(manifest: Mapping[str, Any]) -> Markup | None:
    labels: Sequence[str] = manifest["labels"]
    if not labels:
        return None
    splits: Mapping[str, Any] = manifest["splits"]
    shown = labels[:LABELS_SHOWN]
    rows = [[label, *(_share(split, label) for split in splits.values())] for label in shown]
    more = len(labels) - len(shown)
    return section(
        "Classes",
        el(
            "div",
            figure("Shares of the classes", _shares(labels, splits)),
            el("div", table(["Class", *splits], rows, numeric=range(1, len(splits) + 1))),
            class_="charts",
        ),
        el("p", f"and {more:,} more, all of them in manifest.json") if more > 0 else None,
        note="Rows of each class in each split, and their share of it.",
    )


def _shares(labels: Sequence[str], splits: Mapping[str, Any]) -> Markup:
    """As many of the largest classes as there are hues to tell apart, and the others together."""
    sizes = {n: sum(split["labels"].get(n, 0) for split in splits.values()) for n in labels}
    drawn = list(labels)
    if len(labels) > TOLD_APART:
        largest = set(sorted(labels, key=lambda n: -sizes[n])[:TOLD_APART])
        drawn = [label for label in labels if label in largest]
    others = len(labels) - len(drawn)
    stacks = []
    for name, split in splits.items():
        counts = [split["labels"].get(label, 0) for label in drawn]
        rest = sum(split["labels"].values()) - sum(counts)
        stacks.append(Stack(name, [*counts, rest] if others else counts))
    names = [*drawn, f"{others:,} other classes"] if others else drawn
    return share_chart(names, stacks)


def _share(split: Mapping[str, Any], label: str) -> str:
    count = split["labels"].get(label, 0)
    return f"{count:,} ({count / split['rows']:.1%})" if split["rows"] else f"{count:,}"


def _lengths(manifest: Mapping[str, Any]) -> Markup:
    edges = manifest["characters_histogram_edges"]
    graphics = []
    for name, split in manifest["splits"].items():
        counts = split["characters_histogram"]
        bars = {_bin(edges, at): float(count) for at, count in enumerate(counts) if count}
        graphics.append(figure(f"{name}: rows by characters", bar_chart(bars, unit="rows")))
    rows = [
        [name, *(f"{split['characters'][key]:,.0f}" for key in _LENGTHS)]
        for name, split in manifest["splits"].items()
    ]
    return section(
        "Lengths",
        table(["Characters", *_LENGTHS], rows, numeric=range(1, 6)),
        el("div", graphics, class_="charts"),
    )


def _bin(edges: Sequence[int], at: int) -> str:
    last = at + 1 >= len(edges)
    return f"{edges[at]:,} and more" if last else f"{edges[at]:,} to {edges[at + 1] - 1:,}"


def _rejected(manifest: Mapping[str, Any], counts: Mapping[str, int]) -> Markup | None:
    reasons: Mapping[str, int] = manifest["rejected"]
    if not reasons:
        return None
    rows = [
        [reason, f"{count:,}", f"{count / counts['read']:.2%}"] for reason, count in reasons.items()
    ]
    chart = bar_chart({name: float(count) for name, count in reasons.items()}, unit="rows")
    return section(
        "Rejected rows",
        el(
            "div",
            figure("By reason", chart),
            el("div", table(["Reason", "Rows", "Of all"], rows, numeric=(1, 2))),
            class_="charts",
        ),
        note=f"Each is in {_rejected_rows(manifest)} with its file, line, reason and raw text.",
    )


def _readings(manifest: Mapping[str, Any]) -> Markup | None:
    """What was taken for a missing value, and what else its owner may not expect."""
    taken: Mapping[str, Mapping[str, int]] = manifest.get("taken_for_missing") or {}
    notes: Sequence[str] = manifest.get("notes") or []
    taken_rows = [
        [column, word, f"{count:,}"]
        for column, counts in taken.items()
        for word, count in counts.items()
    ]
    if not taken_rows and not notes:
        return None
    return section(
        "How it was read",
        join(
            table(["Column", "Taken for missing", "Rows"], taken_rows, numeric=(2,))
            if taken_rows
            else None,
            el("ul", [el("li", note) for note in notes]) if notes else None,
        ),
    )


def _files(manifest: Mapping[str, Any]) -> Markup:
    inputs = [
        [str(i["location"]), f"{i['rows']:,}", f"{i['bytes']:,}", i["sha256"][:SHA_SHOWN]]
        for i in manifest["inputs"].values()
    ]
    splits = [
        [split["path"], f"{split['rows']:,}", split["sha256"][:SHA_SHOWN]]
        for split in manifest["splits"].values()
    ]
    return section(
        "Files",
        join(
            el("h3", "Inputs"),
            table(["Location", "Rows", "Bytes", "sha256"], inputs, numeric=(1, 2)),
            el("h3", "Channels"),
            table(["File", "Rows", "sha256"], splits, numeric=(1,)),
        ),
        note="The whole digests are in manifest.json.",
    )


def _settings(manifest: Mapping[str, Any]) -> Markup:
    config = {k: v for k, v in manifest["config"].items() if k not in _LEFT_OUT}
    text = json.dumps(config, indent=2, ensure_ascii=False)
    return section(
        "How it was made",
        el("pre", el("code", text)),
        note=f"{manifest['created_by']}, seed {manifest['seed']}: the same files and settings give "
        "the same bytes.",
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
