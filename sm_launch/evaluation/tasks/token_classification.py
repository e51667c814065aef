"""Entities in a text: precision, recall and F1 over whole entities, as CoNLL counts them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.evaluation.examples import Example, Row, UnusableRow
from sm_launch.evaluation.result import ClassMetrics, Metrics, Prediction, TextMetrics
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.wire import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CUT = "cut_words"
"""Words of a row that the model did not read."""
Span = tuple[str, int, int]
"""Entity type, first and last word."""


class TokenClassification(Task):
    """Rows have `tokens` (words) and `tags` (one a word, B-/I- or plain types, O for none)."""

    name = "token-classification"
    lists = True
    main_metric = "f1"
    DEFAULT_COLUMNS = ("tokens", "tags")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # "first" is the rule of training: a word has the tag of its first token. Which tokens
        # make a word only the data knows, so all tokens are asked for.
        if self.parameters.get("aggregation_strategy", "first") == "first":
            self.parameters |= {"aggregation_strategy": "none", "ignore_labels": []}

    def example(self, index: int, row: Row) -> Example:
        words, tags = _list(row, self.text_column), _list(row, self.label_column)
        if len(words) != len(tags):
            raise UnusableRow(f"{len(words)} words and {len(tags)} tags")
        if not words:
            raise UnusableRow(f"no words in column {self.text_column!r}")
        words = [str(word) for word in words]
        text = " ".join(words)
        return Example(
            index, text, _shown(spans([self._name(tag) for tag in tags])), references=tuple(words)
        )

    def _name(self, tag: Any) -> str:
        """The tag's name; a number counts the model's tags, as in training."""
        known = self.known_labels
        counts = isinstance(tag, int) and 0 <= tag < len(known)
        return known[tag] if counts and str(tag) not in known else str(tag)

    def read(self, example: Example, answer: Any) -> Prediction:
        try:
            return self._read(example, answer)
        except (TypeError, KeyError, AttributeError) as error:
            raise WireError(f"not a list of entities: {str(answer)[:120]}") from error

    def _read(self, example: Example, answer: Any) -> Prediction:
        words = example.references
        gold = example.gold
        values: dict[str, float] = {}
        if any("entity_group" in entity for entity in answer):
            found = _found(answer, words)
        else:
            tags = first_tags(answer, words)
            kept = self._known_words(tags)
            named = spans([tags[word] or "O" for word in kept])
            found = {(kind, kept[first], kept[last]) for kind, first, last in named}
            if len(kept) < len(words):
                gold = _shown(_within(_spans_in(gold), kept))
                values = {CUT: float(len(words) - len(kept))}
        return Prediction(
            example.index, example.text, gold, _shown(found), values=values, slices=example.slices
        )

    def _known_words(self, tags: Sequence[str | None]) -> list[int]:
        """The words that the model read: those with a token, where all tokens were told."""
        told_all = "O" in tags or (bool(self.known_labels) and "O" not in self.known_labels)
        return [at for at, tag in enumerate(tags) if tag is not None or not told_all]

    def score(self, prediction: Prediction) -> Prediction:
        found, gold = _spans_in(prediction.predicted), _spans_in(prediction.gold)
        values: Counter[str] = Counter()
        for kind, *_ in found & gold:
            values[f"right:{kind}"] += 1
        for kind, *_ in found:
            values[f"found:{kind}"] += 1
        for kind, *_ in gold:
            values[f"wanted:{kind}"] += 1
        _, _, f1 = _prf(len(found & gold), len(found), len(gold))
        measured = {"f1": f1, "exact_match": float(found == gold)}
        measured |= {name: float(count) for name, count in values.items()}
        return replace(prediction, values={**prediction.values, **measured})

    def remarks(self, predictions: Sequence[Prediction]) -> list[str]:
        cut = [p.values[CUT] for p in predictions if CUT in p.values]
        if not cut:
            return []
        return [
            f"{sum(cut):.0f} words of {len(cut)} rows have no token within what the model reads; "
            "they count in no metric, in training neither"
        ]

    def metrics(self, predictions: Sequence[Prediction]) -> Metrics:
        import numpy as np

        summary = self.statistic(predictions)(np.arange(len(predictions)))
        totals = sum((Counter(dict(p.values)) for p in predictions), Counter[str]())
        kinds = sorted({name.partition(":")[2] for name in totals if ":" in name})
        return TextMetrics(summary, tuple(_of_kind(kind, totals) for kind in kinds))

    def may_lack(self, name: str) -> bool:
        return ":" not in name  # right:PER and the like are counts

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        import numpy as np

        def column(prefix: str) -> NDArray[np.float64]:
            return np.array(
                [
                    sum(v for name, v in p.values.items() if name.startswith(prefix))
                    for p in predictions
                ],
                dtype=float,
            )

        right, found, wanted = (column(f"{name}:") for name in ("right", "found", "wanted"))
        exact = np.array([p.values.get("exact_match", 0.0) for p in predictions])

        def of(rows: NDArray[np.int64]) -> dict[str, float]:
            counts = (float(values[rows].sum()) for values in (right, found, wanted))
            precision, recall, f1 = _prf(*counts)
            matched = float(exact[rows].mean())
            return {"precision": precision, "recall": recall, "f1": f1, "exact_match": matched}

        return of


def spans(tags: Sequence[str]) -> set[Span]:
    """Entities of a sequence of tags; an I- that continues nothing begins an entity."""
    found: set[Span] = set()
    kind, start = "", 0
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, rest = tag.partition("-")
        name = "" if tag == "O" else rest if rest and prefix in {"B", "I"} else tag
        if kind and (name != kind or prefix == "B"):
            found.add((kind, start, at - 1))
            kind = ""
        if name and not kind:
            kind, start = name, at
    return found


def _found(answer: Any, words: Sequence[str]) -> set[Span]:
    """The entities of an answer, whose characters are made into words again."""
    found: set[Span] = set()
    places = _places(words)
    for entity in answer:
        kind = str(entity["entity_group"])
        touched = [
            i
            for i, (start, end) in enumerate(places)
            if start < entity["end"] and entity["start"] < end
        ]
        if touched:
            found.add((kind, touched[0], touched[-1]))
    return found


def first_tags(answer: Any, words: Sequence[str]) -> list[str | None]:
    """The tag of each word's first token; None for a word of which no token is told.

    Args:
        answer: tokens with `entity`, `start` and `end` in the words joined by spaces.
        words: the words.
    """
    tokens = sorted((token["start"], token["end"], str(token["entity"])) for token in answer)
    tags: list[str | None] = []
    at = 0
    for start, end in _places(words):
        while at < len(tokens) and tokens[at][1] <= start:
            at += 1
        tags.append(tokens[at][2] if at < len(tokens) and tokens[at][0] < end else None)
    return tags


def _places(words: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end of each word in the words joined by spaces."""
    places, at = [], 0
    for word in words:
        places.append((at, at + len(word)))
        at += len(word) + 1
    return places


def _within(found: set[Span], words: Sequence[int]) -> set[Span]:
    """The entities as far as they lie in these words."""
    inside = ((kind, [w for w in words if first <= w <= last]) for kind, first, last in found)
    return {(kind, kept[0], kept[-1]) for kind, kept in inside if kept}


def _list(row: Row, column: str) -> list[Any]:
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.split()
    if not isinstance(value, list):
        raise UnusableRow(f"no list in column {column!r}")
    return list(value)


def _shown(found: set[Span]) -> str:
    return json.dumps(sorted(map(list, found), key=lambda span: span[1:]))


def readable(text: str, answer: str) -> str:
    """The entities of a prediction as a person writes them.

    Args:
        text: the prediction's text, its words parted by one space.
        answer: what was found or expected, as the prediction holds it.
    """
    words = text.split(" ")
    found = sorted(_spans_in(answer), key=lambda span: span[1:])
    parts = [f"{' '.join(words[first : last + 1])} ({kind})" for kind, first, last in found]
    return ", ".join(parts) or "none"


def _spans_in(text: str) -> set[Span]:
    return {(kind, first, last) for kind, first, last in json.loads(text)}


def _of_kind(kind: str, totals: Mapping[str, float]) -> ClassMetrics:
    right, found, wanted = (totals.get(f"{n}:{kind}", 0) for n in ("right", "found", "wanted"))
    return ClassMetrics(
        kind, *_prf(right, found, wanted), support=int(wanted), predicted=int(found)
    )


def _prf(right: float, found: float, wanted: float) -> tuple[float, float, float]:
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
    f1 = 2 * right / (found + wanted) if found + wanted else 1.0
    return precision, recall, f1
