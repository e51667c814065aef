"""Corpus BLEU and chrF of any sample of the rows. Both are made of counts that add up over rows,
so that a thousand resamples cost little more than one; the counts and the formulas are sacrebleu's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sm_launch.errors import UserInputError
from sm_launch.evaluation.task import Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Overlap:
    """Remembers the counts of every pair that it has seen.

    Raises:
        UserInputError: sacrebleu is missing.
    """

    def __init__(self) -> None:
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ImportError:
            raise needs("sacrebleu") from None
        self._metrics: dict[str, Any] = {"bleu": BLEU(), "chrf": CHRF()}
        self._counts: dict[tuple[str, str, str], list[int]] = {}

    def statistic(self, pairs: Sequence[tuple[str, str]]) -> Statistic:
        """BLEU and chrF, from 0 to 100 as in the literature, of a sample of the pairs.

        Args:
            pairs: answer and reference of every row.
        """
        import numpy as np

        tables = {
            name: np.array([self._count(name, *pair) for pair in pairs], dtype=np.int64)
            for name in self._metrics
        }

        def of(rows: NDArray[np.int64]) -> dict[str, float]:
            return {name: self._score(name, table[rows]) for name, table in tables.items()}

        return of

    def _count(self, name: str, answer: str, reference: str) -> list[int]:
        key = (name, answer, reference)
        if key not in self._counts:
            # What sacrebleu's own significance tests are made of.
            (counts,) = self._metrics[name]._extract_corpus_statistics([answer], [[reference]])
            self._counts[key] = counts
        return self._counts[key]

    def _score(self, name: str, counts: NDArray[np.int64]) -> float:
        added = counts.sum(axis=0).tolist()
        return float(self._metrics[name]._compute_score_from_stats(added).score)


def needs(package: str) -> UserInputError:
    """The error for a library that is an extra of this package."""
    return UserInputError(
        f"the evaluation of generated text needs the package {package}",
        field="evaluation.task",
        value="text-generation",
        fix="pip install 'sm-launch[text]'",
    )
