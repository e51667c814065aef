"""BEIR: judgements of a split in a table, whose queries and documents lie in files above it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sm_launch.errors import UserInputError

FORMAT = "beir"
_FILES = ("queries.jsonl", "corpus.jsonl")
_COLUMNS = ("query-id", "corpus-id", "score")


def written_rows(judgements: Path, target: Path, *, graded: bool, field: str) -> Path:
    """A row for each judgement: query and document with their grade, or those that belong together.

    Args:
        judgements: qrels/SPLIT.tsv.
        target: gets lines of JSON.
        graded: query, document and label of all; else anchor and positive of those above 0.
        field: of job.yaml, for errors.

    Raises:
        UserInputError: a file or a column is missing.
    """
    above = judgements.parent.parent
    missing = [name for name in _FILES if not (above / name).is_file()]
    if missing or judgements.is_dir():
        raise UserInputError(
            f"is no file qrels/SPLIT.tsv below {' and '.join(_FILES)}",
            field=field,
            value=str(judgements),
            fix=f"name the table of judgements; {above} lacks {', '.join(missing)}"
            if missing
            else "name the table of judgements, such as qrels/train.tsv",
        )
    judged = list(_judged(judgements, field))
    queries = _texts(above / _FILES[0], {query for query, _, _ in judged})
    documents = _texts(above / _FILES[1], {document for _, document, _ in judged})
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as lines:
        for query, document, score in judged:
            asked, told = queries.get(query), documents.get(document)  # null is set aside
            ids = {"query_id": query, "document_id": document}
            if graded:
                row = {"query": asked, "document": told, "label": score, **ids}
            elif score > 0:
                row = {"anchor": asked, "positive": told, **ids}
            else:
                continue
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return target


def _judged(path: Path, field: str) -> Iterator[tuple[str, str, float]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise UserInputError(
                f"has the columns {', '.join(reader.fieldnames or ())}",
                field=field,
                value=str(path),
                fix=f"give a table with the columns {', '.join(_COLUMNS)}",
            )
        for row in reader:
            yield row["query-id"], row["corpus-id"], float(row["score"])


def _texts(path: Path, wanted: set[str]) -> dict[str, str]:
    """Title and text of those lines, by their ids."""
    texts: dict[str, str] = {}
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line) if line.strip() else {}
            if str(row.get("_id")) in wanted:
                parts = (str(row.get(name) or "").strip() for name in ("title", "text"))
                texts[str(row["_id"])] = "\n\n".join(filter(None, parts))
    return texts
