"""Scores of generated text against references: exact match, ROUGE, BLEU, chrF.

`sm-launch evaluate` measures the same: rouge-score over words of any script, sacrebleu's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

ROUGE = ("rouge1", "rouge2", "rougeL")
TEXT_SCORES = ("exact_match", *ROUGE, "bleu", "chrf")


class WordTokenizer:
    """Words of any script: the library's own tokenizer keeps ASCII letters and digits only."""

    def tokenize(self, text: str) -> list[str]:
        """In lower case, without punctuation."""
        import regex

        return list(regex.findall(r"[\p{L}\p{M}\p{N}]+", text.lower()))


def text_scores(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Means over rows of exact match and ROUGE's F1; BLEU and chrF, 0 to 100, of all rows as one.

    Args:
        answers: what the model wrote, one a reference, at least one.
        references: what was expected.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    scorer = RougeScorer(ROUGE, use_stemmer=False, tokenizer=WordTokenizer())
    pairs = list(zip(answers, references, strict=True))
    rouge = [scorer.score(reference, answer) for answer, reference in pairs]
    same = [answer.split() == reference.split() for answer, reference in pairs]
    return {
        "exact_match": sum(same) / len(same),
        **{name: sum(row[name].fmeasure for row in rouge) / len(rouge) for name in ROUGE},
        "bleu": float(BLEU().corpus_score(list(answers), [list(references)]).score),
        "chrf": float(CHRF().corpus_score(list(answers), [list(references)]).score),
    }
