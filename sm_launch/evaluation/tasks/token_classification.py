"""Entities in a text: precision, recall and F1 over whole entities, as CoNLL counts them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.evaluation.entities import Span, answered_spans, spans
from sm_launch.evaluation.examples import Example, Row, UnusableRow
from sm_launch.evaluation.result import ClassMetrics, Metrics, Prediction, TextMetrics
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.wire import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenClassification(Task):
    """Rows have `tokens` (words) and `tags`: one a word, in BIO, BIOES, BILOU or plain types."""

    name = "token-classification"
    lists = True
    main_metric = "f1"
    DEFAULT_COLUMNS = ("tokens", "tags")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.parameters = {"aggregation_strategy": "none", **self.parameters}

    def example(self, index: int, row: Row) -> Example:
        words, tags = _list(row, self.text_column), _list(row, self.label_column)
        if len(words) != len(tags):
            raise UnusableRow(f"{len(words)} words and {len(tags)} tags")
        if not words:
            raise UnusableRow(f"no words in column {self.text_column!r}")
        text = " ".join(words)
        return Example(index, text, _shown(spans(tags)), references=tuple(words))

    def read(self, example: Example, answer: Any) -> Prediction:
        found = _found(answer, example.references)
        return Prediction(
            example.index, example.text, example.gold, _shown(found), slices=example.slices
        )

    def score(self, prediction: Prediction) -> Prediction:
        found, gold = _read(prediction.predicted), _read(prediction.gold)
        values: Counter[str] = Counter()
        for kind, *_ in found & gold:
            values[f"right:{kind}"] += 1
        for kind, *_ in found:
            values[f"found:{kind}"] += 1
        for kind, *_ in gold:
            values[f"wanted:{kind}"] += 1
        _, _, f1 = _prf(len(found & gold), len(found), len(gold))
        # Of one row; over all rows, none expected and none found is 0, as seqeval has it.
        measured = {"f1": f1 if found or gold else 1.0, "exact_match": float(found == gold)}
        measured |= {name: float(count) for name, count in values.items()}
        return replace(prediction, values=measured)

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


def _found(answer: Any, words: Sequence[str]) -> set[Span]:
    try:
        return answered_spans(answer, words)
    except (TypeError, KeyError, AttributeError) as error:
        raise WireError(f"not a list of entities: {str(answer)[:120]}") from error


def _list(row: Row, column: str) -> list[str]:
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = value.split()
    if not isinstance(value, list):
        raise UnusableRow(f"no list in column {column!r}")
    return [str(item) for item in value]


def _shown(found: set[Span]) -> str:
    return json.dumps(sorted(map(list, found), key=lambda span: span[1:]))


def readable(text: str, answer: str) -> str:
    """The entities of a prediction as a person writes them.

    Args:
        text: the prediction's text, its words parted by one space.
        answer: what was found or expected, as the prediction holds it.
    """
    words = text.split(" ")
    found = sorted(_read(answer), key=lambda span: span[1:])
    parts = [f"{' '.join(words[first : last + 1])} ({kind})" for kind, first, last in found]
    return ", ".join(parts) or "none"


def _read(text: str) -> set[Span]:
    return {(kind, first, last) for kind, first, last in json.loads(text)}


def _of_kind(kind: str, totals: Mapping[str, float]) -> ClassMetrics:
    right, found, wanted = (totals.get(f"{n}:{kind}", 0) for n in ("right", "found", "wanted"))
    return ClassMetrics(
        kind, *_prf(right, found, wanted), support=int(wanted), predicted=int(found)
    )


def _prf(right: float, found: float, wanted: float) -> tuple[float, float, float]:
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
    f1 = 2 * right / (found + wanted) if found + wanted else 0.0
    return precision, recall, f1
