"""What an evaluation must know about a task: rows in, requests out, answers back, numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sm_launch.evaluation.example import Example, Row
from sm_launch.evaluation.result import Metrics, Prediction, TextMetrics
from sm_launch.evaluation.wire import WireError, excerpt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Statistic = Callable[["NDArray[np.int64]"], dict[str, float]]
"""Metrics of a sample of the rows, given by their positions; quick, as it is called 1000 times."""


class Task:
    """Base of all tasks.

    Args:
        text_column: column of the input; default: DEFAULT_COLUMNS.
        label_column: column of the expected answer, likewise.
        labels: order of the labels in tables.
        parameters: sent with each request.
        data_columns: the columns of the data.
        pair_column: column of a second text, for the task that has one.
        known_labels: the model's own classes, in the order of their ids.
    """

    name: ClassVar[str]
    main_metric: str
    """What slices, comparisons and the reader look at first."""
    DEFAULT_COLUMNS: ClassVar[tuple[str, str]]
    lists: ClassVar[bool] = False
    """Whether one answer is a list of objects: servers drop the outer list of a lone input."""
    trained_by: ClassVar[str] = ""
    """The training method; empty: the one of this task's name."""
    text_key: ClassVar[str] = "text_column"
    """The hyperparameter that names the column of the input."""
    label_key: ClassVar[str] = "label_column"
    """The hyperparameter that names the column of the expected answer."""
    labelled: ClassVar[bool] = False
    """Whether rows have labels, which the model must know."""
    calibrated: ClassVar[bool] = False
    """Whether a row has one label, whose score is how sure the model is of it."""
    shows_spread: ClassVar[bool] = True
    """Whether the report shows how the rows' own values spread."""

    def __init__(
        self,
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        labels: Sequence[str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        data_columns: Sequence[str] = (),
        pair_column: str | None = None,
        known_labels: Sequence[str] = (),
    ) -> None:
        text, label = self.default_columns(data_columns)
        self.text_column = text_column or text
        self.label_column = label_column or label
        self.labels = labels
        self.pair_column = pair_column
        self.known_labels = tuple(known_labels)
        self.parameters = dict(parameters or {})

    def default_columns(self, data_columns: Sequence[str]) -> tuple[str, str]:
        """Columns of input and answer where none are named."""
        return self.DEFAULT_COLUMNS

    @property
    def columns(self) -> dict[str, str]:
        """Setting to column that the data must have."""
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        return columns | ({"text_pair_column": self.pair_column} if self.pair_column else {})

    def prepare(self) -> None:
        """Called before the first request: fails where a library is missing."""

    def example(self, index: int, row: Row) -> Example:
        """A row as it is sent. Raises UnusableRow where something is missing."""
        raise NotImplementedError

    def encode(self, examples: Sequence[Example]) -> bytes:
        """The body of a request."""
        inputs = [e.text if e.payload is None else e.payload for e in examples]
        payload: dict[str, Any] = {"inputs": inputs, "parameters": self.parameters}
        return json.dumps(payload, ensure_ascii=False).encode()

    def answers(self, body: bytes, expected: int) -> list[Any]:
        """The answers in `body`, one for each of the `expected` inputs, as they are.

        Raises:
            WireError: not JSON, another shape, or another number of answers.
        """
        return read_list(body, expected, lists=self.lists)

    def read(self, example: Example, answer: Any) -> Prediction:
        """One answer as a prediction. Quick: it is called while the server is timed.

        Raises WireError.
        """
        raise NotImplementedError

    def as_label(self, answer: Any) -> Any:
        """An answer as a row's label would be written; of tasks whose answers are no such thing,
        captured requests are not measured. Raises WireError."""
        raise NotImplementedError

    def score(self, prediction: Prediction) -> Prediction:
        """The prediction with what can be measured on it alone."""
        return prediction

    def predict(self, example: Example, answer: Any) -> Prediction:
        """One answer, measured. Raises WireError."""
        return self.score(self.read(example, answer))

    def complete(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The scored predictions with what can be measured on all of them only."""
        return list(predictions)

    def check_first(self, answers: Sequence[Any], golds: Collection[str]) -> None:
        """Look at a few answers before all rows are paid for.

        Args:
            answers: as they came.
            golds: the expected answers of all rows.

        Raises:
            UserInputError: answers like these cannot be measured against the data.
        """

    def labels_in(self, gold: str) -> Sequence[str]:
        """The classes that an expected answer names."""
        return (gold,)

    def settle(self, examples: Sequence[Example]) -> list[str]:
        """Choose what depends on all rows, before the first request; returns what to tell of it.

        Raises UserInputError where the rows do not fit the model.
        """
        return []

    def remarks(self, predictions: Sequence[Prediction]) -> list[str]:
        """What to tell of the scored predictions beside their metrics."""
        return []

    def identity(self) -> dict[str, Any]:
        """What makes the same row another request, or its answer another prediction."""
        return {"task": self.name, "parameters": self.parameters, "columns": self.columns}

    def metrics(self, predictions: Sequence[Prediction]) -> Metrics:
        """Quality over `predictions`, at least one: the statistic of all rows."""
        import numpy as np

        return TextMetrics(self.statistic(predictions)(np.arange(len(predictions))))

    def may_lack(self, name: str) -> bool:
        """Whether a row without the value `name` is one on which it is not known.

        False for counts, where no value means none.
        """
        return True

    def statistic(self, predictions: Sequence[Prediction]) -> Statistic:
        """The metrics that confidence intervals and comparisons are made of."""
        return mean_of_values(predictions)


def read_list(body: bytes, expected: int, *, lists: bool = False) -> list[Any]:
    """The answers in `body`, one for each of the `expected` inputs.

    Args:
        body: JSON.
        expected: how many inputs were sent.
        lists: an answer is itself a list of objects.

    Raises:
        WireError: not JSON, another shape, or another number of answers.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise WireError(f"the reply is not JSON: {excerpt(body)}") from error
    if expected == 1 and (isinstance(document, dict) or (lists and _objects(document))):
        return [document]  # HF pipelines drop the outer list for one input
    if not isinstance(document, list):
        raise WireError(f"the reply is not a JSON list: {excerpt(body)}")
    if len(document) != expected:
        raise WireError(f"{expected} inputs were sent and {len(document)} answers came back")
    return document


def _objects(document: Any) -> bool:
    return isinstance(document, list) and all(isinstance(item, dict) for item in document)


def mean_of_values(predictions: Sequence[Prediction]) -> Statistic:
    """The mean of every value that was measured row by row."""
    import numpy as np

    names = list(dict.fromkeys(name for p in predictions for name in p.values))
    table = {
        name: np.array([p.values.get(name, np.nan) for p in predictions], dtype=float)
        for name in names
    }
    complete = {name: values for name, values in table.items() if not np.isnan(values).all()}

    def of(rows: NDArray[np.int64]) -> dict[str, float]:
        means = {}
        for name, values in complete.items():
            sample = values[rows]
            known = sample[~np.isnan(sample)]
            means[name] = float(known.mean()) if len(known) else float("nan")
        return means

    return of
