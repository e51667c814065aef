"""Extractive question answering, measured as SQuAD does: exact match and F1 over words."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sm_launch.evaluation.example import Example, Row, UnusableRow, missing, required_text
from sm_launch.evaluation.result import Prediction
from sm_launch.evaluation.task import Statistic, Task, mean_of_values
from sm_launch.evaluation.wire import WireError

HAS_ANSWER, NO_ANSWER = "HasAns", "NoAns"
"""SQuAD 2's names for its two kinds of questions."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class QuestionAnswering(Task):
    """Rows have `question`, `context` and `answers`, in SQuAD's shapes or as plain texts."""

    name = "question-answering"
    main_metric = "f1"
    DEFAULT_COLUMNS = ("question", "answers")
    context_column = "context"

    @property
    def columns(self) -> dict[str, str]:
        return {**super().columns, "context_column": self.context_column}

    def example(self, index: int, row: Row) -> Example:
        question = required_text(row, self.text_column, "question").strip()
        context = required_text(row, self.context_column, "context")
        impossible = row.get("is_impossible") is True
        accepted = () if impossible else accepted_answers(row.get(self.label_column))
        payload = {"question": question, "context": context}
        gold = accepted[0] if accepted else ""
        return Example(index, question, gold, payload, accepted)

    def settle(self, examples: Sequence[Example]) -> list[str]:
        unanswered = sum(not example.references for example in examples)
        if not unanswered or self.parameters.get("handle_impossible_answer") is not None:
            return []
        self.parameters["handle_impossible_answer"] = True
        return [f"{unanswered} questions have no answer: handle_impossible_answer is sent"]

    def read(self, example: Example, answer: Any) -> Prediction:
        first = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(first, dict) or not isinstance(first.get("answer"), str):
            raise WireError(f"not an answer to a question: {str(answer)[:120]}")
        text = first["answer"]
        score = first.get("score")
        # A score that is no probability says nothing of the answer, which counts all the same.
        scores = {text: float(score)} if isinstance(score, int | float) and 0 <= score <= 1 else {}
        return Prediction(
            example.index, example.text, example.gold, text, scores, example.references,
            slices=example.slices,
        )  # fmt: skip

    def as_label(self, answer: Any) -> Any:
        return [self.read(Example(0, "", ""), answer).predicted]

    def score(self, prediction: Prediction) -> Prediction:
        text = prediction.predicted
        # A question without answers is answered right by nothing, and so is one whose answers
        # are nothing in SQuAD's normal form ("the", "?"): its own script says so.
        accepted = [a for a in prediction.references if normalise(a)] or [""]
        values = {
            "exact_match": max(float(normalise(text) == normalise(a)) for a in accepted),
            "f1": max(word_f1(text, a) for a in accepted),
        }
        kind = HAS_ANSWER if prediction.references else NO_ANSWER
        parts = {f"{kind}_exact": values["exact_match"], f"{kind}_f1": values["f1"]}
        return replace(prediction, values=values | parts)

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        """Means of all questions and, where there are both kinds, of those with an answer alone."""
        kinds = {name.partition("_")[0] for p in predictions for name in p.values}
        if {HAS_ANSWER, NO_ANSWER} <= kinds:
            return mean_of_values(predictions)
        return mean_of_values([replace(p, values=_of_all(p.values)) for p in predictions])


def _of_all(values: Mapping[str, float]) -> dict[str, float]:
    parts = (f"{HAS_ANSWER}_", f"{NO_ANSWER}_")
    return {name: value for name, value in values.items() if not name.startswith(parts)}


def accepted_answers(value: Any) -> tuple[str, ...]:
    """The accepted texts of an `answers` cell. Raises UnusableRow for another shape.

    Takes SQuAD's list of {text, answer_start}, the {text: […], answer_start: […]} that `datasets`
    makes of it, a list of texts, one text, or any of those as JSON. An empty list: no answer.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return (value,)
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, str):
        value = [value]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list):
        raise UnusableRow("no answers, or not in one of SQuAD's shapes")
    texts = [item.get("text") if isinstance(item, dict) else item for item in value]
    return tuple(str(text) for text in texts if not missing(text))


def normalise(text: str) -> str:
    """SQuAD's normal form: lowercase, without punctuation and articles, single spaces."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def word_f1(answer: str, accepted: str) -> float:
    """F1 of the words two normalised texts have in common; two empty texts agree."""
    given, wanted = normalise(answer).split(), normalise(accepted).split()
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))


TASK = QuestionAnswering
