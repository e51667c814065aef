"""Entities in a text: precision, recall and F1 over whole entities, as CoNLL counts them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sm_launch.data.class_ids import ClassId
from sm_launch.evaluation.entities import OUTSIDE, Span, answered_spans, spans, within
from sm_launch.evaluation.example import Example, Row, UnusableRow
from sm_launch.evaluation.result import ClassMetrics, Metrics, Prediction, TextMetrics
from sm_launch.evaluation.task import Statistic, Task
from sm_launch.evaluation.wire import WireError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CUT = "cut_words"
"""Words of a row that the model did not read."""


class TokenClassification(Task):
    """Rows have `tokens` (words) and `tags`: one a word, in BIO, BIOES, BILOU or plain types."""

    name = "token-classification"
    label_key = "tags_column"
    shows_spread = False
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
        tokens, tags = _list(row, self.text_column), _list(row, self.label_column)
        if len(tokens) != len(tags):
            raise UnusableRow(f"{len(tokens)} words and {len(tags)} tags")
        if None in tags:
            raise UnusableRow(f"a word without a tag in column {self.label_column!r}")
        if not tokens:
            raise UnusableRow(f"no words in column {self.text_column!r}")
        tokens = [str(word) for word in tokens]
        text = " ".join(tokens)
        return Example(
            index, text, _shown(spans([self._name(tag) for tag in tags])), references=tuple(tokens)
        )

    def _name(self, tag: Any) -> str:
        """The tag's name; a number counts the model's tags, as in training, or has the name of one
        in its file."""
        known = self.known_labels
        if isinstance(tag, ClassId) and (not known or tag.name in known):
            return tag.name
        counts = isinstance(tag, int) and 0 <= tag < len(known)
        return known[tag] if counts and str(tag) not in known else str(tag)

    def read(self, example: Example, answer: Any) -> Prediction:
        try:
            return self._read(example, answer)
        except (TypeError, KeyError, AttributeError) as error:
            raise WireError(f"not a list of entities: {str(answer)[:120]}") from error

    def _read(self, example: Example, answer: Any) -> Prediction:
        tokens, gold = example.references, example.gold
        predicted, known = answered_spans(answer, tokens, told_all=self._told_all(answer))
        values = {}
        if len(known) < len(tokens):
            gold = _shown(within(_spans_in(gold), known))
            values = {CUT: float(len(tokens) - len(known))}
        return Prediction(
            example.index,
            example.text,
            gold,
            _shown(predicted),
            values=values,
            slices=example.slices,
        )

    def _told_all(self, answer: Any) -> bool:
        """Whether the answer holds all tokens, and not only those of entities."""
        if self.known_labels and OUTSIDE not in self.known_labels:
            return True
        return any(token.get("entity") == OUTSIDE for token in answer)

    def score(self, prediction: Prediction) -> Prediction:
        predicted, gold = _spans_in(prediction.predicted), _spans_in(prediction.gold)
        values: Counter[str] = Counter()
        for kind, *_ in predicted & gold:
            values[f"right:{kind}"] += 1
        for kind, *_ in predicted:
            values[f"found:{kind}"] += 1
        for kind, *_ in gold:
            values[f"wanted:{kind}"] += 1
        _, _, f1 = _prf(len(predicted & gold), len(predicted), len(gold))
        # Of one row; over all rows, none expected and none found is 0, as seqeval has it.
        measured = {"f1": f1 if predicted or gold else 1.0, "exact_match": float(predicted == gold)}
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
        return ":" not in name and name != CUT  # right:PER and the like are counts

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

        right, predicted, wanted = (column(f"{name}:") for name in ("right", "found", "wanted"))
        exact = np.array([p.values.get("exact_match", 0.0) for p in predictions])

        def of(rows: NDArray[np.int64]) -> dict[str, float]:
            counts = (float(values[rows].sum()) for values in (right, predicted, wanted))
            precision, recall, f1 = _prf(*counts)
            matched = float(exact[rows].mean())
            return {"precision": precision, "recall": recall, "f1": f1, "exact_match": matched}

        return of


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


def _shown(entities: set[Span]) -> str:
    return json.dumps(sorted(map(list, entities), key=lambda span: span[1:]))


def readable(text: str, answer: str) -> str:
    """The entities of a prediction as a person writes them.

    Args:
        text: the prediction's text, its words parted by one space.
        answer: what was found or expected, as the prediction holds it.
    """
    tokens = text.split(" ")
    entities = sorted(_spans_in(answer), key=lambda span: span[1:])
    parts = [f"{' '.join(tokens[first : last + 1])} ({kind})" for kind, first, last in entities]
    return ", ".join(parts) or "none"


def _spans_in(text: str) -> set[Span]:
    return {(kind, first, last) for kind, first, last in json.loads(text)}


def _of_kind(kind: str, totals: Mapping[str, float]) -> ClassMetrics:
    right, predicted, wanted = (totals.get(f"{n}:{kind}", 0) for n in ("right", "found", "wanted"))
    return ClassMetrics(
        kind, *_prf(right, predicted, wanted), support=int(wanted), predicted=int(predicted)
    )


def _prf(right: float, predicted: float, wanted: float) -> tuple[float, float, float]:
    precision = right / predicted if predicted else 0.0
    recall = right / wanted if wanted else 0.0
    f1 = 2 * right / (predicted + wanted) if predicted + wanted else 0.0
    return precision, recall, f1


TASK = TokenClassification
