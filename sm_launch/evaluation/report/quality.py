"""The report's sections on quality: metrics, confusions, calibration, slices, worst answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sm_launch.evaluation.report.intervals import Bar, interval_chart, scaled
from sm_launch.evaluation.result import (
    ClassificationMetrics,
    EvaluationResult,
    Metrics,
    Prediction,
)
from sm_launch.evaluation.scales import UNBOUNDED
from sm_launch.evaluation.tasks import kind_of
from sm_launch.evaluation.tasks.token_classification import readable
from sm_launch.report import charts
from sm_launch.report.charts import Series
from sm_launch.report.html import Markup, el, figure, join, section, table
from sm_launch.report.numbers import decimal

ANSWERS_SHOWN = 20
SLICES_DRAWN = 25
TEXT_SHOWN = 240
"""Characters of a text that are shown; enough to judge an answer by."""

TITLES: dict[str, tuple[str, str]] = {
    "accuracy": ("Accuracy", "share of right answers"),
    "f1_macro": ("F1", "mean over classes"),
    "f1_micro": ("F1", "over all labels given"),
    "subset_accuracy": ("Subset accuracy", "rows with all labels right"),
    "hamming_loss": ("Hamming loss", "share of wrong decisions"),
    "precision_macro": ("Precision", "mean over classes"),
    "recall_macro": ("Recall", "mean over classes"),
    "f1": ("F1", "precision and recall in one"),
    "exact_match": ("Exact match", "share of answers"),
    "precision": ("Precision", "of whole entities"),
    "recall": ("Recall", "of whole entities"),
    "margin": ("Margin", "chosen above rejected"),
    "rouge1": ("ROUGE-1", "words in common"),
    "rouge2": ("ROUGE-2", "word pairs in common"),
    "rougeL": ("ROUGE-L", "longest common sequence"),
    "bleu": ("BLEU", "0 to 100, whole set"),
    "chrf": ("chrF", "0 to 100, whole set"),
    "judge": ("Judge", "mean grade, 0 to 1"),
    "perplexity": ("Perplexity", "of the references' tokens"),
    "byte_perplexity": ("Byte perplexity", "for any tokenizer"),
    "cosine_ndcg@10": ("NDCG@10", "order of what was found"),
    "cosine_accuracy": ("Accuracy", "by the cosine"),
    "cosine_ap": ("Average precision", "by the cosine"),
    "spearman_cosine": ("Spearman", "cosine with the score"),
    "roc_auc_macro": ("ROC-AUC", "one against the rest"),
    "ece": ("Calibration error", "ECE, 0 is best"),
    "ece_debiased": ("Calibration error", "less chance, 0 is best"),
}
_WORD_METRICS = ("f1", "rougeL", "judge")
_PRF = ("precision", "recall", "f1")
_AVERAGES = ("micro", "macro", "weighted", "samples")
_CLASS_NOTE = (
    "Precision: how many of the rows called this class are of it. Recall: how many of the rows of "
    "this class were found. F1: their harmonic mean."
)

_ENTITY_NOTE = (
    "Precision: how many of the entities found are right. Recall: how many of the true ones were "
    "found. F1: their harmonic mean. Right is an entity with all its words and its kind."
)


def tiles(result: EvaluationResult) -> list[tuple[str, str, str]]:
    """Name, title and explanation of the headline metrics that this evaluation has."""
    summary = result.metrics.summary if result.metrics is not None else {}
    known = [(name, *titles) for name, titles in TITLES.items() if name in summary]
    # A benchmark's metrics have the names of its tasks.
    return known or [(name, name, "") for name in summary]


def with_interval(result: EvaluationResult, name: str) -> str:
    """A metric's value, and from where to where it may be where that is known."""
    value = result.metrics.summary[name] if result.metrics is not None else 0.0
    digits = 1 if name in ("bleu", "chrf") else 3
    interval = result.intervals.get(name)
    shown = f"{value:.{digits}f}"
    if interval is None:
        return shown
    return f"{shown} {interval.low:.{digits}f} to {interval.high:.{digits}f}"


def quality_sections(result: EvaluationResult) -> Markup:
    """Everything about how right the answers are."""
    metrics = result.metrics
    if metrics is None:
        return section("Quality", el("p", "No row got an answer."))
    return join(
        section(
            "Quality",
            _class_table(metrics) if metrics.per_class else None,
            _confusions(metrics) if isinstance(metrics, ClassificationMetrics) else None,
            _distributions(result),
            note=_note(metrics),
        ),
        _intervals(result),
        _calibration(result),
        _slices(result),
    )


def _note(metrics: Metrics) -> str | None:
    if not metrics.per_class:
        return None
    return _CLASS_NOTE if "f1_macro" in metrics.summary else _ENTITY_NOTE


def _class_table(metrics: Metrics) -> Markup:
    averages = [name for name in _AVERAGES if f"f1_{name}" in metrics.summary]
    scored = any(entry.roc_auc is not None for entry in metrics.per_class)
    rows = [
        [
            entry.label,
            *(optional(value) for value in entry.rates),
            *([optional(entry.roc_auc)] if scored else []),
            f"{entry.support:,}",
            f"{entry.predicted:,}",
        ]
        for entry in metrics.per_class
    ]
    for average in averages:
        values = [f"{metrics.summary[f'{name}_{average}']:.3f}" for name in _PRF]
        known = metrics.summary.get(f"roc_auc_{average}")
        area = ["" if known is None else f"{known:.3f}"] if scored else []
        rows.append([f"{average} average", *values, *area, "", ""])
    if not averages:
        values = [f"{metrics.summary[name]:.3f}" for name in _PRF]
        rows.append(["all entities", *values, "", ""])
    head = ["Class" if averages else "Entity", "Precision", "Recall", "F1"]
    head += [*(["ROC-AUC"] if scored else []), "True", "Predicted"]
    return table(head, rows, numeric=range(1, len(head)))


def _confusions(metrics: ClassificationMetrics) -> Markup:
    chart = charts.confusion_chart(metrics.labels, metrics.confusion)
    return join(
        el("h3", "Confusion matrix"),
        el(
            "div",
            figure("Rows by true and predicted class", chart, *_order(len(metrics.labels))),
            el("div", _confusions_table(metrics)),
            class_="charts",
        ),
    )


def _order(labels: int) -> list[Markup]:
    """What tells rows and columns where there is no room for their names."""
    if labels <= charts.COLUMNS_NAMED:
        return []
    left_out = "Columns" if labels <= charts.ROWS_NAMED else "Rows and columns"
    return [el("p", f"{left_out}: the classes in the order of the table above.", class_="note")]


def _confusions_table(metrics: ClassificationMetrics) -> Markup:
    pairs = [
        (count, metrics.labels[i], metrics.labels[j], count / (sum(row) or 1))
        for i, row in enumerate(metrics.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    if not pairs:
        return el("p", "There are no confusions: every answer was right.", class_="note")
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return table(
        ["True", "Predicted", "Rows", "Of class"],
        [[true, wrong, f"{count:,}", f"{share:.1%}"] for count, true, wrong, share in pairs[:10]],
        numeric=(2, 3),
        caption="Most frequent confusions",
    )


def _distributions(result: EvaluationResult) -> Markup | None:
    """How the rows' own values spread: a mean of 0.5 may be all middling, or half of them right."""
    graphics = []
    for name in _WORD_METRICS:
        values = [p.values[name] for p in result.predictions if name in p.values]
        if values and kind_of(result.task).shows_spread:
            title = TITLES[name][0]
            chart = charts.histogram(values, x_label=title, y_label="rows", bins=20)
            graphics.append(figure(f"{title} of the rows", chart))
    return el("div", graphics, class_="charts") if graphics else None


def _intervals(result: EvaluationResult) -> Markup | None:
    summary: Mapping[str, float] = result.metrics.summary if result.metrics is not None else {}
    known = [
        (name, summary[name], interval.low, interval.high)
        for name, interval in result.intervals.items()
        if name in summary
    ]
    if not known:
        return None
    bars = [scaled(*each) for each in known if each[0] not in UNBOUNDED]
    rows = [[name, *(decimal(number) for number in numbers)] for name, *numbers in known]
    return section(
        "Confidence",
        el(
            "div",
            figure("95 % confidence intervals", interval_chart(bars)),
            el("div", table(["Metric", "Value", "From", "To"], rows, numeric=(1, 2, 3))),
            class_="charts",
        ),
        note="Where the value of this model lies, as far as these rows can tell. "
        "Models whose intervals overlap may be equally good; sm-launch compare tells.",
    )


def _calibration(result: EvaluationResult) -> Markup | None:
    bins = result.calibration
    if not bins:
        return None
    observed = Series("share right", [(bucket.confidence, bucket.accuracy) for bucket in bins])
    plot = charts.line_chart(
        [observed],
        x_label="confidence of the model",
        y_label="share right",
        y_range=(0.0, 1.0),
        x_range=(0.0, 1.0),
        diagonal=True,
    )
    rows = [
        [f"{f.low:.1f} to {f.high:.1f}", f"{f.rows:,}", f"{f.confidence:.3f}", f"{f.accuracy:.3f}"]
        for f in bins
    ]
    summary = result.metrics.summary if result.metrics is not None else {}
    brier = f" Brier score {summary['brier']:.4f}." if "brier" in summary else ""
    return section(
        "Calibration",
        el(
            "div",
            figure("Reliability", plot),
            el("div", table(["Confidence", "Rows", "Mean", "Right"], rows, numeric=(1, 2, 3))),
            class_="charts",
        ),
        note="On the dashed line the model is right as often as it is sure; below it, it is too "
        f"sure. Expected calibration error {summary.get('ece', 0.0):.4f}.{brier}",
    )


def _slices(result: EvaluationResult) -> Markup | None:
    if not result.slices:
        return None
    main = result.main_metric
    title = TITLES.get(main, (main, ""))[0]
    names = [n for n in ("accuracy", "exact_match") if n != main]
    known = [n for n in names if any(n in part.metrics for part in result.slices)]
    parts = []
    for column in dict.fromkeys(part.column for part in result.slices):
        inside = [part for part in result.slices if part.column == column]
        bars = [
            Bar(part.value, part.metrics[main], part.interval.low, part.interval.high)
            for part in inside
            if part.interval and main in part.metrics
        ]
        rows = [
            [part.value, f"{part.rows:,}", optional(part.metrics.get(main))]
            + [optional(part.metrics.get(name)) for name in known]
            for part in inside
        ]
        head = [column, "Rows", title, *(TITLES[name][0] for name in known)]
        chart = _slice_chart(f"{title} by {column}", bars)
        listing = el("div", table(head, rows, numeric=range(1, len(head))))
        parts.append(join(el("h3", column), el("div", chart, listing, class_="charts")))
    return section("Slices", *parts, note="The same metrics on parts of the data.")


def _slice_chart(title: str, bars: Sequence[Bar]) -> Markup | None:
    if not bars:
        return None
    more = len(bars) - SLICES_DRAWN
    said = [el("p", f"Not drawn: {more:,} more.", class_="note")] if more > 0 else []
    return figure(title, interval_chart(bars[:SLICES_DRAWN]), *said)


def worst_answers(result: EvaluationResult) -> Markup:
    """The answers that differ most from what was expected."""
    ranked = sorted(result.predictions, key=lambda p: (_row_value(p, result.main_metric), p.index))
    worst = [p for p in ranked if _row_value(p, result.main_metric) < 1][:ANSWERS_SHOWN]
    judged = any(p.note for p in worst)
    rows = [
        [str(p.index), shorten(p.text), shown(p, p.gold), shown(p, p.predicted)]
        + [optional(_row_value(p, result.main_metric))]
        + ([f"{optional(p.values.get('judge'))} {p.note}"] if judged else [])
        for p in worst
    ]
    score = TITLES.get(result.main_metric, (result.main_metric, ""))[0]
    head = ["Row", "Input", "Expected", "Answer", score, *(["Judge"] if judged else [])]
    return section(
        "Worst answers",
        table(head, rows, numeric=(0, 4)) if rows else None,
        note=None if rows else "Every answer is as expected.",
    )


def _row_value(prediction: Prediction, main: str) -> float:
    values = prediction.values
    return values.get(main, values.get("exact_match", float(prediction.correct)))


def shown(prediction: Prediction, answer: str) -> str:
    """An expected or given answer for a table; entities are written out."""
    if any(name.startswith(("found:", "wanted:")) for name in prediction.values):
        answer = readable(prediction.text, answer)
    return shorten(answer)


def shorten(text: str) -> str:
    """One line of bounded length."""
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT_SHOWN else flat[: TEXT_SHOWN - 1] + "…"


def optional(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"
