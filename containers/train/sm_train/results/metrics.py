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

# SageMaker metric name: key on the log line, as a regular expression. A reward model logs `margin`
# and `accuracy` for what the preference methods call `rewards/margins` and `rewards/accuracies`; on
# held-out rows its accuracy is eval:accuracy, as a classifier's; where a text may have several
# labels, that is the subset accuracy. Classifiers log macro averages; sentence-transformers'
# evaluators put `cosine_` before their own. What tells of no quality (epoch, runtime) has no place
# among the 40; of a job only those are asked for that its method logs.
_OF_TRAINING = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "samples_per_second": "samples_per_second",
    "tokens_per_second": "tokens_per_second",
    "mean_token_accuracy": "mean_token_accuracy",
    "reward": "(?:mean_)?reward",
    "reward_margin": "(?:rewards/margins|margin)",
    "reward_accuracy": "(?:rewards/accuracies|accuracy)",
    "kl": "kl",
}
_OF_HELD_OUT = {
    "loss": "loss",
    "perplexity": "perplexity",
    "accuracy": "(?:cosine_|subset_)?accuracy(?:@1)?",
    "precision": "(?:cosine_)?precision(?:_macro|@10)?",
    "recall": "(?:cosine_)?recall(?:_macro|@10)?",
    "f1": "(?:cosine_)?f1",
    "exact_match": "exact_match",
    "mean_token_accuracy": "mean_token_accuracy",
    "reward": "(?:mean_)?reward",
    "reward_margin": "(?:rewards/margins|margin)",
    "reward_accuracy": "rewards/accuracies",
    "ndcg": "(?:cosine_)?ndcg@10",
    "correlation": "(?:spearman_cosine|pearson)",
    "mae": "mae",
    "average_precision": "(?:cosine_ap|map)",
    "mrr": "(?:cosine_)?mrr@10",
    "rougeL": "rougeL",
    "bleu": "bleu",
    "chrf": "chrf",
}
_LOGGED = {f"train:{name}": key for name, key in _OF_TRAINING.items()} | {
    f"{split}:{name}": f"{split}_{key}"
    for split in ("eval", "test")
    for name, key in _OF_HELD_OUT.items()
}

_CLASSES, _SCRIPT = "text-classification", "script"
# Methods that log a metric, where SageMaker's limit leaves no room to look for it in every log;
# `script` stands for a script of the user's.
_METHODS = {
    "correlation": [_CLASSES, "embedding", _SCRIPT],
    "mae": [_CLASSES, _SCRIPT],
    "average_precision": ["embedding", "reranking", _SCRIPT],
    "mrr": ["embedding", "reranking"],
    "rougeL": ["seq2seq"],
    "bleu": ["seq2seq"],
    "chrf": ["seq2seq"],
}

METRIC_DEFINITIONS: list[dict[str, Any]] = [
    {"Name": name, "Regex": rf"(?:^|\s){key}={_NUMBER}"}
    | ({"Methods": methods} if (methods := _METHODS.get(name.partition(":")[2])) else {})
    for name, key in _LOGGED.items()
]


def log_line(row: Mapping[str, Any]) -> str:
    """One log event as `step=10 epoch=0.5 loss=0.61 …`, without the figures of single labels."""
    shown = {key: value for key, value in row.items() if not of_one_label(key)}
    return " ".join(f"{key}={_shown(value)}" for key, value in shown.items())


def of_one_label(key: str) -> bool:
    """Whether a metric is that of one label, as `eval_f1[sport]`: there may be hundreds of them."""
    return key.endswith("]")


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
    """Accuracy over words; precision, recall and F1 over whole entities, as in CoNLL.

    Tags without a prefix such as B- (parts of speech) count as entities of one word each.
    """
    truths = {(row, *e) for row, tags in enumerate(expected) for e in entities(tags)}
    guesses = {(row, *e) for row, tags in enumerate(predicted) for e in entities(tags)}
    hits = len(truths & guesses)
    agreed = [
        truth == guess
        for left, right in zip(expected, predicted, strict=True)
        for truth, guess in zip(left, right, strict=True)
    ]
    return {
        "accuracy": _ratio(sum(agreed), len(agreed)),
        "precision": _ratio(hits, len(guesses)),
        "recall": _ratio(hits, len(truths)),
        "f1": _ratio(2 * hits, len(truths) + len(guesses)),
    }


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first word, word after the last, kind) of each entity, as seqeval reads them.

    BIO, IOBES (BIOES) and BILOU; an I or E that continues nothing begins an entity.
    """
    spans: list[tuple[int, int, str]] = []
    before = ("", "O")
    for index, tag in enumerate(tags):
        prefix, kind = _split(tag)
        if kind != "O":
            continues = prefix in ("I", "E") and before[0] in ("B", "I") and before[1] == kind
            if continues:
                spans[-1] = (spans[-1][0], index + 1, kind)
            else:
                spans.append((index, index + 1, kind))
        before = (prefix, kind)
    return spans


def _split(tag: str) -> tuple[str, str]:
    """Prefix and kind; BILOU's last and unit are BIOES's end and single. A plain tag has none."""
    prefix, dash, kind = tag.partition("-")
    known = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}
    return (known[prefix], kind) if dash and prefix in known and kind else ("", tag)


def cross_entropy(logits: Any, labels: Any, ignored: int = -100) -> float:
    """Mean loss of all labels that count, from arrays of logits [..., classes] and labels [...].

    The trainer's own figure is a mean of batches: it depends on how rows are batched, and where
    several processes share them it counts the rows twice that fill up the last batch.
    """
    import numpy

    kept = labels != ignored
    values = numpy.asarray(logits[kept], dtype=numpy.float64)
    if not len(values):
        return float("nan")
    highest = values.max(axis=-1, keepdims=True)
    norms = numpy.log(numpy.exp(values - highest).sum(axis=-1)) + highest[:, 0]
    return float((norms - values[numpy.arange(len(values)), labels[kept]]).mean())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
