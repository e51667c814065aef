"""From scores to classes: thresholds of one's own for each, given or tuned on held-out rows.

Of one class a text it is the one whose score by its threshold is largest (as Spark ML's
`thresholds`): of two classes with 0.3 and 0.7 the first where its score reaches 0.3. Where a text
may have several labels it has those whose score reaches their threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sm_train.errors import UserError
from sm_train.results.label_sets import place_of, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

TUNED = "tuned"
USUAL = 0.5
FIELD = "threshold"
HELP = (
    "Score from which on a text has a label (multi_label_classification): a number, or {label: "
    "number}, 0.5 for labels left out. Of one class a text: {class: number}, and the class of the "
    "largest score / threshold is chosen; classes left out share what is missing to 1, so that "
    "{rare: 0.2} of two classes chooses rare from 0.2 on. `tuned`: those of the best macro F1 on "
    "the validation channel. They are kept in the model's config.json; server and evaluation apply "
    "them. Default: 0.5, or the class of the largest score."
)
_ROUNDS = 5
"""How often each class's threshold is looked at anew, as long as that gains something."""
_LEAST, _MOST = 1e-4, 1e4
"""Of a threshold by those of the other classes: beyond, it would fit single rows."""


@dataclass
class Thresholds:
    """How a model's scores become classes."""

    labels: Sequence[str]
    several: bool
    """Whether a text may have several labels."""
    values: list[float] | None = None
    """In the order of the labels; None for the usual: 0.5, or the largest score."""

    @property
    def told(self) -> float | dict[str, float] | None:
        """As config.json has them; None where the largest score is chosen."""
        if self.values is None:
            return USUAL if self.several else None
        if self.several and len(set(self.values)) == 1:
            return self.values[0]
        return dict(zip(self.labels, self.values, strict=True))

    def scores(self, logits: NDArray[Any]) -> NDArray[Any]:
        """From 0 to 1: of rows by labels."""
        return sigmoid(logits) if self.several else _softmax(logits)

    def decide(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Of several labels true for those given, by rows; of one class its number, a row each."""
        import numpy

        if self.several:
            return self.scores(logits) >= numpy.array(self.values or [USUAL] * len(self.labels))
        if self.values is None:
            return numpy.asarray(logits.argmax(axis=-1))
        return numpy.asarray((self.scores(logits) / self.values).argmax(axis=-1))

    def tune(self, logits: NDArray[Any], label_ids: NDArray[Any]) -> None:
        """Take those by which these rows have the best macro F1; the usual where none is better."""
        scores = self.scores(logits)
        if self.several:
            columns = zip(scores.T.tolist(), (label_ids > USUAL).T.tolist(), strict=True)
            self.values = [best_threshold(*column) for column in columns]
            return
        expected = [int(index) for index in label_ids]
        self.values = None
        usual = _Counts(expected, self.decide(logits).tolist()).f1
        self.values = _best_together(scores, expected)
        if _Counts(expected, self.decide(logits).tolist()).f1 <= usual:
            self.values = None


def asked_thresholds(asked: Any, labels: Sequence[str], *, several: bool) -> Thresholds:
    """What the hyperparameter says, for these labels; `tuned` is settled after training."""
    made = Thresholds(labels, several)
    if isinstance(asked, Mapping):
        given = {place_of(name, labels): float(value) for name, value in asked.items()}
        rest = (1 - sum(given.values())) / max(len(labels) - len(given), 1)
        made.values = [given.get(at, USUAL if several else rest) for at in range(len(labels))]
    elif asked is not None and asked != TUNED:
        made.values = [float(asked)] * len(labels)
    return made


def check_threshold(asked: Any, *, several: bool, regression: bool) -> None:
    """Refuse what is no threshold, or what nothing would apply."""
    if asked is None:
        return
    if regression:
        raise UserError("a regression has no classes", field=FIELD, value=asked, fix="remove it")
    if isinstance(asked, str) and asked != TUNED:
        raise UserError("is no number, mapping or tuned", field=FIELD, value=asked, fix=HELP)
    if asked == TUNED:
        return
    if not several and not isinstance(asked, Mapping):
        raise UserError(
            "one number is applied to several labels a text, and this job learns one class",
            field=FIELD,
            value=asked,
            fix="give {class: number} or tuned, or set problem_type to multi_label_classification",
        )
    given = asked if isinstance(asked, Mapping) else {"all": asked}
    bad = {name: value for name, value in given.items() if not _is_threshold(value, several)}
    if bad or not given:
        raise UserError(
            f"a threshold is a number {'from 0 to 1' if several else 'above 0 and below 1'}",
            field=FIELD,
            value=bad if isinstance(asked, Mapping) and bad else asked,
            fix="write {class: number}, such as {rare: 0.2}",
        )


def _is_threshold(value: Any, several: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1 if several else 0 < value < 1


def check_thresholds_fit(
    asked: Any, labels: Sequence[str], *, several: bool, validates: bool
) -> None:
    """Refuse thresholds of classes that the job does not have, and tuning without rows for it."""
    if asked == TUNED and not validates:
        raise UserError(
            "is found on held-out rows, and the job has no validation channel",
            field=FIELD,
            value=asked,
            fix="add the channel, or give {class: number}",
        )
    if not isinstance(asked, Mapping):
        return
    strange = [str(name) for name in asked if place_of(name, labels) is None]
    if strange:
        raise UserError(
            f"names what is no class: {', '.join(strange[:10])}",
            field=FIELD,
            value=dict(asked),
            fix=f"the classes are {', '.join(labels[:20])}",
        )
    left = len(labels) - len(asked)
    if not several and left and sum(map(float, asked.values())) >= 1:
        raise UserError(
            f"leaves nothing of 1 to the {left} classes that it does not name",
            field=FIELD,
            value=dict(asked),
            fix="name all classes, or give smaller numbers",
        )


def best_threshold(scores: Sequence[float], expected: Sequence[bool]) -> float:
    """That of a label's best F1: halfway between two scores; of equally good ones the nearest to
    0.5. 0.5 where no row has the label."""
    wanted = sum(expected)
    if not wanted:
        return USUAL
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    candidates = []
    right = 0
    for given, at in enumerate(order, 1):
        right += expected[at]
        last = given == len(order)
        below = 0.0 if last else scores[order[given]]
        if last or below < scores[at]:
            # Where 0.5 parts the same rows it stays.
            middle = USUAL if below < USUAL <= scores[at] else (below + scores[at]) / 2
            candidates.append((2 * right / (wanted + given), middle))
    return max(candidates, key=lambda each: (each[0], -abs(each[1] - USUAL)))[1]


def _best_together(scores: NDArray[Any], expected: Sequence[int]) -> list[float]:
    """Thresholds of classes of which each row gets one: one after the other, while it gains."""
    import numpy

    classes = scores.shape[1]
    values = numpy.full(classes, 1 / classes)
    present = sorted(set(expected))
    for _ in range(_ROUNDS):
        gained = [_move(values, at, scores, expected) for at in present]
        if not any(gained):
            break
    return [float(value) for value in values / values.sum()]


def _move(values: NDArray[Any], at: int, scores: NDArray[Any], expected: Sequence[int]) -> bool:
    """Set one class's threshold to where the macro F1 is best; whether that gained something.

    From the highest threshold down each row goes over to the class from its best other one.
    """
    import numpy

    rated = scores / values
    rated[:, at] = -1
    classes, others = scores.shape[1], rated.argmax(axis=1)
    # A row has the class from this threshold on.
    with numpy.errstate(divide="ignore"):
        turns = scores[:, at] / rated.max(axis=1)
    counted = _Counts(expected, others.tolist())
    stays = _Counts(expected, (scores / values).argmax(axis=1).tolist()).f1
    best, where = stays, float(values[at])
    order = numpy.argsort(-turns, kind="stable").tolist()
    for place, row in enumerate(order):
        counted.turn(expected[row], int(others[row]), at)
        below = float(turns[order[place + 1]]) if place + 1 < len(order) else 0.0
        middle = (below + float(turns[row])) / 2
        apart = below < turns[row] and _LEAST <= middle * classes <= _MOST
        if apart and counted.f1 > best + 1e-12:
            best, where = counted.f1, middle
    values[at] = where
    return best > stays


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    import numpy

    values = numpy.asarray(logits, dtype=numpy.float64)
    powers = numpy.exp(values - values.max(axis=-1, keepdims=True))
    return numpy.asarray(powers / powers.sum(axis=-1, keepdims=True))


class _Counts:
    """Rows of each class, given and right, and their macro F1 as answers change."""

    def __init__(self, expected: Sequence[int], given: Sequence[int]) -> None:
        self._wanted, self._given = Counter(expected), Counter(given)
        self._right = Counter(w for w, g in zip(expected, given, strict=True) if w == g)
        self._sum = sum(map(self._of, self._wanted))

    @property
    def f1(self) -> float:
        """The mean over the classes that rows have or are given, as `classification_scores`."""
        strange = sum(n > 0 for label, n in self._given.items() if label not in self._wanted)
        return self._sum / (len(self._wanted) + strange)

    def turn(self, wanted: int, before: int, after: int) -> None:
        """One row gets another class."""
        self._sum -= self._of(before) + self._of(after)
        self._given[before] -= 1
        self._given[after] += 1
        self._right[before] -= wanted == before
        self._right[after] += wanted == after
        self._sum += self._of(before) + self._of(after)

    def _of(self, label: int) -> float:
        if label not in self._wanted:
            return 0.0
        return 2 * self._right[label] / (self._wanted[label] + self._given[label])
