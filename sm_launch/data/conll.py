"""CoNLL files: a word and its tags on each line, an empty line between sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from sm_launch.data.chunks import ROWS_PER_CHUNK, BadRow, Chunk
from sm_launch.data.sources import Source
from sm_launch.data.text_file import TextFile
from sm_launch.errors import UserInputError

_NO_SENTENCE = "-DOCSTART-"
"""What CoNLL-2003 writes between two documents."""
_SAMPLE_LINES = 1000

_TAG = re.compile(r"O|[BIESLU]-\S+")

Line = tuple[int, list[str]]
"""Number of a line, from 1, and its columns."""


def read_conll(source: Source, delimiter: str | None) -> Iterator[Chunk]:
    """A row a sentence: the words as `tokens`, the last column as `tags`, others by their number.

    Where the first column holds the tags, as the MIT corpora have it, they are told by their form.

    Args:
        source: the file.
        delimiter: of its columns; None: a tab where a line has one, else blanks.

    Raises:
        UserInputError: no line has two columns. A sentence in which the columns change is in
            `Chunk.bad`.
    """
    width, tags_first = _form(source, delimiter)
    first, last = ("tags", "tokens") if tags_first else ("tokens", "tags")
    names = [first, *map(str, range(1, width - 1)), last]
    with TextFile(source) as file:
        chunk = Chunk(source.split, names)
        for number, sentence in enumerate(_sentences(file, delimiter, width), start=1):
            _add(chunk, number, sentence, width)
            if len(chunk) >= ROWS_PER_CHUNK:
                yield file.told(chunk, file.bytes_read)
                chunk = Chunk(source.split, names)
        yield file.told(chunk, source.path.stat().st_size)


def _form(source: Source, delimiter: str | None) -> tuple[int, bool]:
    """How many columns most lines have, and whether the first of them has the tags."""
    with TextFile(source) as file:
        lines = (line for line, _ in zip(file, range(_SAMPLE_LINES), strict=False))
        sample = [cells for _, cells in _cells(lines, delimiter) if cells]
    widths = Counter(map(len, sample))
    width = widths.most_common(1)[0][0] if widths else 0
    if width < 2:
        raise UserInputError(
            "is no CoNLL file: its lines have no second column with a tag",
            field=f"data.{source.split}",
            value=source.location,
            fix="give a word and its tags on each line, with blanks or a tab between them (another "
            "separator: data.delimiter), or set data.format",
        )
    whole = [cells for cells in sample if len(cells) == width]
    first, last = (all(_TAG.fullmatch(cells[at]) for cells in whole) for at in (0, -1))
    return width, first and not last


def _cells(lines: Iterator[str], delimiter: str | None) -> Iterator[Line]:
    """The columns of each line; none for one between sentences."""
    for number, line in enumerate(lines, start=1):
        bare = line.strip("\ufeff \t\r\n") if number == 1 else line.strip(" \t\r\n")
        if not bare or bare.startswith(_NO_SENTENCE):
            yield number, []
        else:
            between = delimiter or ("\t" if "\t" in bare else None)
            yield number, [cell.strip() for cell in bare.split(between)]


def _sentences(file: Iterator[str], delimiter: str | None, width: int) -> Iterator[list[Line]]:
    """Lines up to an empty one, without the comments before them."""
    for filled, lines in groupby(_cells(file, delimiter), key=lambda line: bool(line[1])):
        sentence = list(lines) if filled else []
        while sentence and sentence[0][1][0].startswith("#") and len(sentence[0][1]) != width:
            sentence.pop(0)
        if sentence:
            yield sentence


def _add(chunk: Chunk, number: int, sentence: list[Line], width: int) -> None:
    for line, cells in sentence:
        if len(cells) != width:
            raw = "\n".join(" ".join(each) for _, each in sentence)
            detail = f"{len(cells)} columns where other lines have {width}"
            chunk.bad.append(BadRow(number, line, detail, raw))
            return
    columns = zip(*(cells for _, cells in sentence), strict=True)
    chunk.rows.append([list(column) for column in columns])
    chunk.numbers.append(number)
    chunk.lines.append(sentence[0][0])
