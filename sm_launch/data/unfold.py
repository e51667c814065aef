"""Rows that hold a query with all of its documents: each becomes a row for each document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sm_launch.data.chunks import Chunk, cell, find_column, is_null
from sm_launch.data.labels import as_list
from sm_launch.job.data import Columns, DataConfig
from sm_launch.job.tasks import TASKS

Place = tuple[int, tuple[str, ...]]
_RELEVANT, _OTHER = 1, 0


def unfolded(chunk: Chunk, config: DataConfig) -> Chunk:
    """The chunk with a row for each document, where its rows hold several.

    Either a row has lists of documents and of labels, as MS MARCO's; or a positive and negative
    documents, each a text or a list, as sentence-transformers' and BEIR's: these get the labels 1
    and 0. A row whose lists differ in length stays as it is, and is set aside as it is cleaned.
    """
    columns = config.columns
    if TASKS[config.task].rows != "ranked" or not chunk.names:
        return chunk
    if isinstance(columns.document, list) or isinstance(columns.label, list):
        return chunk
    document, label = (find_column(chunk.names, c) for c in (columns.document, columns.label))
    if document is not None and label is not None:
        return _with_rows(chunk, chunk.names, [_of_lists(r, document, label) for r in chunk.rows])
    sides = _sides(chunk.names, columns)
    if document is not None or label is not None or not sides:
        return chunk
    names = [*chunk.names, str(columns.document), str(columns.label)]
    return _with_rows(chunk, names, [list(_of_sides(row, sides)) for row in chunk.rows])


def folded(names: Sequence[str], config: DataConfig) -> frozenset[str]:
    """The columns of positive and negative documents, where rows are made of them."""
    document = config.columns.document
    if TASKS[config.task].rows != "ranked" or isinstance(document, list):
        return frozenset()
    return frozenset(names[at] for (at, _), _ in _sides(names, config.columns))


def _with_rows(chunk: Chunk, names: list[str], rows: list[list[Sequence[Any]]]) -> Chunk:
    counts = [len(each) for each in rows]
    return replace(
        chunk,
        names=names,
        rows=[row for each in rows for row in each],
        numbers=_repeated(chunk.numbers, counts),
        lines=_repeated(chunk.lines, counts) if chunk.lines else [],
    )


def _repeated(numbers: list[int], counts: list[int]) -> list[int]:
    return [n for n, count in zip(numbers, counts, strict=True) for _ in range(count)]


def _of_lists(cells: Sequence[Any], document: Place, label: Place) -> list[Sequence[Any]]:
    documents, labels = (as_list(cell(cells, place)) for place in (document, label))
    if documents is None or labels is None or len(documents) != len(labels):
        return [cells]
    pairs = zip(documents, labels, strict=True)
    return [_put(_put(cells, document, text), label, grade) for text, grade in pairs]


def _put(cells: Sequence[Any], place: Place, value: Any) -> list[Any]:
    """The row with another value at a place, which may be inside an object."""
    at, path = place
    return [*cells[:at], _inside(cells[at], path, value), *cells[at + 1 :]]


def _inside(whole: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    return {**whole, path[0]: _inside(whole[path[0]], path[1:], value)}


def _sides(names: Sequence[str], columns: Columns) -> list[tuple[Place, int]]:
    """Where the documents are, and how relevant: empty without a column for those that answer."""
    positive = find_column(names, columns.positive)
    if positive is None:
        return []
    given = find_column(names, columns.negative)
    others = [(at, ()) for at, name in enumerate(names) if name.startswith("negative")]
    negatives = dict.fromkeys([*([given] if given else []), *others])
    return [(positive, _RELEVANT), *((place, _OTHER) for place in negatives)]


def _of_sides(cells: Sequence[Any], sides: list[tuple[Place, int]]) -> Iterator[Sequence[Any]]:
    for place, relevance in sides:
        value = cell(cells, place)
        for document in as_list(value) or [value]:
            if relevance == _RELEVANT or not is_null(document):
                yield [*cells, document, relevance]
