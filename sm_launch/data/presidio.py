"""Personal data that presidio recognises, names above all, beside the patterns of `mask_pii`.

presidio asks spaCy for words and, where there is a trained pipeline, for names. Nothing is
downloaded: a pipeline is an installed package or a directory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.data import Presidio

FIELD = "data.presidio"
# What texts are about as often as not; and what `mask_pii` has masked before.
_NOT_BY_DEFAULT = frozenset(
    {"DATE_TIME", "EMAIL_ADDRESS", "MAC_ADDRESS", "NRP", "ORGANIZATION", "URL"}
)
_SHORT = {"CREDIT_CARD": "CARD", "EMAIL_ADDRESS": "EMAIL", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
          "PHONE_NUMBER": "PHONE", "US_SSN": "SSN"}  # fmt: skip
"""What `mask_pii` calls them."""


def masker(settings: Presidio) -> Callable[[str], str]:
    """A function that puts presidio's names of them in place of what it recognises.

    Raises:
        UserInputError: presidio or the pipeline is not installed, or an entity is unknown.
    """
    analyzer = _analyzer(settings.model, settings.language)
    entities = _entities(analyzer.get_supported_entities(settings.language), settings)

    def mask(text: str) -> str:
        hits = analyzer.analyze(
            text,
            language=settings.language,
            entities=entities,
            score_threshold=settings.least_score,
        )
        for hit in _apart(hits, text):
            name = _SHORT.get(hit.entity_type, hit.entity_type)
            text = f"{text[: hit.start]}[{name}]{text[hit.end :]}"
        return text

    return mask


def _apart(hits: Sequence[Any], text: str) -> list[Any]:
    """Those that do not overlap, surest first, from the end; none of what is masked already."""
    chosen: list[Any] = []
    for hit in sorted(hits, key=lambda each: (-each.score, each.start - each.end)):
        masked = (
            text[max(hit.start - 1, 0) : hit.start] == "[" and text[hit.end : hit.end + 1] == "]"
        )
        if not masked and all(hit.end <= each.start or each.end <= hit.start for each in chosen):
            chosen.append(hit)
    return sorted(chosen, key=lambda each: -int(each.start))


def _entities(supported: Sequence[str], settings: Presidio) -> list[str]:
    if settings.entities is None:
        return sorted(set(supported) - _NOT_BY_DEFAULT)
    unknown = sorted(set(settings.entities) - set(supported))
    if unknown:
        raise UserInputError(
            "is nothing that presidio recognises with this model and language",
            field=f"{FIELD}.entities",
            value=unknown[0],
            fix=f"choose of {', '.join(sorted(supported))}",
        )
    return list(settings.entities)


@functools.lru_cache(maxsize=1)
def _analyzer(model: str | None, language: str) -> Any:
    """Once a process: a pipeline takes seconds to load, and cleaners are made for each chunk."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise UserInputError(
            f"needs the package {error.name}",
            field=FIELD,
            fix="pip install 'sm-launch[pii]'",
        ) from None
    try:
        pipeline = spacy.load(model) if model else spacy.blank(language)
    except (OSError, ImportError) as error:
        raise UserInputError(
            f"is no spaCy pipeline here: {error}",
            field=f"{FIELD}.model" if model else f"{FIELD}.language",
            value=model or language,
            fix="install its package, such as en_core_web_sm of spaCy's releases, or name a "
            "directory; without model only what has a form is recognised, no names",
        ) from None
    named = [{"lang_code": language, "model_name": model or "blank"}]
    engine = SpacyNlpEngine(models=named)
    engine.nlp = {language: pipeline}
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
