"""Numbers of a training job: which ones are logged, how a log line looks, how they are computed.

SageMaker finds metrics by regular expressions on the log (CreateTrainingJob, MetricDefinitions: at
most 40, each regex at most 500 characters). A log line is `key=value` pairs, so that one pattern
fits all; `METRIC_DEFINITIONS` is the one place that the launcher's copy is generated from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"

# SageMaker metric name: key on the log line.
_LOGGED = {
    "train:loss": "loss",
    "train:learning_rate": "learning_rate",
    "train:grad_norm": "grad_norm",
    "train:epoch": "epoch",
    "train:samples_per_second": "samples_per_second",
    "train:tokens_per_second": "tokens_per_second",
    "train:mean_token_accuracy": "mean_token_accuracy",
    "train:reward": "reward",
    "train:reward_margin": "rewards/margins",
    "train:reward_accuracy": "rewards/accuracies",
    "train:kl": "kl",
    "train:runtime": "train_runtime",
    "eval:loss": "eval_loss",
    "eval:accuracy": "eval_accuracy",
    "eval:f1": "eval_f1",
    "eval:exact_match": "eval_exact_match",
    "eval:mean_token_accuracy": "eval_mean_token_accuracy",
    "eval:reward_accuracy": "eval_rewards/accuracies",
    "test:loss": "test_loss",
    "test:accuracy": "test_accuracy",
    "test:f1": "test_f1",
    "test:exact_match": "test_exact_match",
}

METRIC_DEFINITIONS: list[dict[str, str]] = [
    {"Name": name, "Regex": rf"(?:^|\s){key}={_NUMBER}"} for name, key in _LOGGED.items()
]


def log_line(row: Mapping[str, Any]) -> str:
    """One log event as `step=10 epoch=0.5 loss=0.61 …`."""
    return " ".join(f"{key}={_shown(value)}" for key, value in row.items())


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def finite_or_none(value: Any) -> Any:
    """JSON knows no NaN: a number that is not finite becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def confusion_matrix(
    expected: Sequence[int], predicted: Sequence[int], classes: int
) -> list[list[int]]:
    """Counts by [expected class][predicted class]."""
    matrix = [[0] * classes for _ in range(classes)]
    for truth, guess in zip(expected, predicted, strict=True):
        matrix[truth][guess] += 1
    return matrix


def regression_scores(expected: Sequence[float], given: Sequence[float]) -> dict[str, float]:
    """Mean squared and mean absolute error, and Pearson's correlation (0 where one is constant)."""
    count = len(expected)
    errors = [guess - truth for truth, guess in zip(expected, given, strict=True)]
    means = sum(expected) / count, sum(given) / count
    apart = [(t - means[0], g - means[1]) for t, g in zip(expected, given, strict=True)]
    together = sum(t * g for t, g in apart)
    spread = math.sqrt(sum(t * t for t, _ in apart) * sum(g * g for _, g in apart))
    return {
        "mse": sum(error * error for error in errors) / count,
        "mae": sum(map(abs, errors)) / count,
        "pearson": together / spread if spread else 0.0,
    }


def classification_scores(matrix: Sequence[Sequence[int]]) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over the classes that occur.

    `f1` is the macro average. A class that neither occurs nor is predicted does not count.
    """
    classes = range(len(matrix))
    total = sum(map(sum, matrix))
    support = [sum(matrix[c]) for c in classes]
    guesses = [sum(row[c] for row in matrix) for c in classes]
    hits = [matrix[c][c] for c in classes]
    precision = [_ratio(hits[c], guesses[c]) for c in classes]
    recall = [_ratio(hits[c], support[c]) for c in classes]
    f1 = [_ratio(2 * hits[c], support[c] + guesses[c]) for c in classes]
    present = [c for c in classes if support[c] or guesses[c]]

    def macro(values: Sequence[float]) -> float:
        return _ratio(sum(values[c] for c in present), len(present))

    return {
        "accuracy": _ratio(sum(hits), total),
        "f1": macro(f1),
        "f1_macro": macro(f1),
        "f1_weighted": _ratio(sum(f1[c] * support[c] for c in classes), total),
        "precision_macro": macro(precision),
        "recall_macro": macro(recall),
    }


def entity_scores(
    expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Accuracy over words; precision, recall and F1 over whole entities (IOB tags), as in CoNLL.

    Tags without B- and I- (parts of speech) count as entities of one word each.
    """
    truths = {(row, *e) for row, tags in enumerate(expected) for e in entities(tags)}
    guesses = {(row, *e) for row, tags in enumerate(predicted) for e in entities(tags)}
    hits = len(truths & guesses)
    words = [
        truth == guess
        for left, right in zip(expected, predicted, strict=True)
        for truth, guess in zip(left, right, strict=True)
    ]
    return {
        "accuracy": _ratio(sum(words), len(words)),
        "precision": _ratio(hits, len(guesses)),
        "recall": _ratio(hits, len(truths)),
        "f1": _ratio(2 * hits, len(truths) + len(guesses)),
    }


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first word, word after the last, kind) of each entity; a stray I- begins one."""
    found: list[tuple[int, int, str]] = []
    for index, tag in enumerate(tags):
        if tag == "O":
            continue
        kind = tag[2:] if tag[:2] in ("B-", "I-") else tag
        continues = tag.startswith("I-") and found and found[-1][1:] == (index, kind)
        if continues:
            found[-1] = (found[-1][0], index + 1, kind)
        else:
            found.append((index, index + 1, kind))
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
