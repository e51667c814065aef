"""Scores of a model that gives each text any number of labels, as scikit-learn has them.

Arrays are of rows by labels; an undefined precision, recall or F1 counts 0, as scikit-learn's
`zero_division=0`, and averages are over all labels of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def label_set_scores(
    expected: NDArray[Any], predicted: NDArray[Any], labels: Sequence[str]
) -> dict[str, float]:
    """Averages over labels (macro, and its other name `f1`), over all decisions (micro), over rows
    (samples), the shares of rows that are right as a whole and of decisions that are wrong; and of
    each label its F1, how many rows have it and how many were given it.

    Args:
        expected: true where the row has the label.
        predicted: true where the model gives it.
        labels: in the order of their ids.
    """
    right = expected & predicted
    of_label = _scores(right, expected, predicted, axis=0)
    scores = {
        f"{name}_{average}": float(values.mean())
        for average, measures in (
            ("micro", _scores(right, expected, predicted, axis=None)),
            ("macro", of_label),
            ("samples", _scores(right, expected, predicted, axis=1)),
        )
        for name, values in measures.items()
    }
    support, given = expected.sum(axis=0), predicted.sum(axis=0)
    each = {
        f"{name}[{label}]": float(values[at])
        for at, label in enumerate(labels)
        for name, values in (("f1", of_label["f1"]), ("support", support), ("predicted", given))
    }
    return {
        "f1": scores["f1_macro"],
        **scores,
        "subset_accuracy": float((expected == predicted).all(axis=1).mean()),
        "hamming_loss": float((expected != predicted).mean()),
        **each,
    }


def _scores(
    right: NDArray[Any], expected: NDArray[Any], predicted: NDArray[Any], axis: int | None
) -> dict[str, NDArray[Any]]:
    import numpy

    hits, wanted, given = (
        numpy.atleast_1d(array.sum(axis=axis)).astype(float)
        for array in (right, expected, predicted)
    )
    return {
        "precision": hits / numpy.maximum(given, 1),
        "recall": hits / numpy.maximum(wanted, 1),
        "f1": 2 * hits / numpy.maximum(wanted + given, 1),
    }


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    """Scores from 0 to 1 of each label by itself."""
    import numpy

    # In this form nothing overflows.
    return (1 + numpy.tanh(numpy.asarray(logits, dtype=numpy.float64) / 2)) / 2


def binary_cross_entropy(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """The mean over all rows and labels of torch's BCEWithLogitsLoss."""
    import numpy

    values = numpy.asarray(logits, dtype=numpy.float64)
    return float((numpy.logaddexp(0, values) - targets * values).mean())


def place_of(name: Any, labels: Sequence[str]) -> int | None:
    """Of a label in their order; a number that is no name is that place. None: it is no label."""
    text = str(name)
    if text in labels:
        return labels.index(text)
    return int(text) if text.isdecimal() and int(text) < len(labels) else None
