"""Filters that need a library: the language of a text, and its length in a model's tokens."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from sm_launch.errors import UserInputError
from sm_launch.job.data import Languages, Tokens


class LanguageFilter:
    """Says in which language a text is, where that is none of the wanted ones.

    Args:
        settings: the wanted languages.

    Raises:
        UserInputError: the library is missing, or knows no such language.
    """

    def __init__(self, settings: Languages) -> None:
        self._settings = settings
        self._allowed = frozenset(settings.allowed)
        known = {str(label) for label in self._identifier.labels}
        stray = sorted(self._allowed - known)
        if stray:
            raise UserInputError(
                "is no language that can be recognised",
                field="data.language.allowed",
                value=stray[0],
                fix=f"give ISO 639-1 codes: {', '.join(sorted(known))}",
            )

    @cached_property
    def _identifier(self) -> Any:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            raise needs("py3langid", "data.language") from None
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def problem(self, text: str) -> str | None:
        """Which other language it is; None where the text may stay.

        A text that is too short or that fits several languages stays: a guess is no reason.
        """
        if len(text) < self._settings.min_characters:
            return None
        language, confidence = self._identifier.classify(text)
        if language in self._allowed or confidence < self._settings.least_confidence:
            return None
        return f"looks like {language} (confidence {confidence:.2f})"


class TokenFilter:
    """Counts tokens as the model will.

    Args:
        settings: limits, and where the tokenizer is.

    Raises:
        UserInputError: the library or the tokenizer is missing.
    """

    def __init__(self, settings: Tokens) -> None:
        self._settings = settings
        self._tokenizer = load_tokenizer(settings.tokenizer)

    def apply(self, text: str) -> tuple[str, int]:
        """The text, cut where that is wanted, and its number of tokens before that."""
        encoding = self._tokenizer.encode(text)
        count = len(encoding.ids)
        most = self._settings.max
        if most is None or count <= most or self._settings.too_long == "drop":
            return text, count
        # Special tokens stand for nothing of the text, and must fit in too.
        special = sum(encoding.special_tokens_mask)
        ends = [
            end
            for (_, end), mask in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
            if not mask
        ]
        return text[: ends[max(most - special, 1) - 1]].rstrip(), count

    def problem(self, count: int) -> tuple[str, str] | None:
        """Reason and detail for a text of so many tokens; None where it may stay."""
        least, most = self._settings.min, self._settings.max
        if count < least:
            return "too_few_tokens", f"{count} of at least {least} tokens"
        if most is not None and count > most and self._settings.too_long == "drop":
            return "too_many_tokens", f"{count} of at most {most} tokens"
        return None


def load_tokenizer(location: str | None) -> Any:
    """The tokenizer of a model directory, or of a tokenizer.json.

    Raises:
        UserInputError: the library is missing, or there is no tokenizer.json.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise needs("tokenizers", "data.tokens") from None
    path = Path(location or "")
    file = path / "tokenizer.json" if path.is_dir() else path
    if location is None or not file.is_file():
        raise UserInputError(
            "there is no tokenizer.json here",
            field="data.tokens.tokenizer",
            value=location,
            fix="name a model directory on this machine that has one, or the file itself",
        )
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def needs(package: str, field: str) -> UserInputError:
    """The error for a library that is an extra of this package."""
    return UserInputError(
        f"needs the package {package}", field=field, fix="pip install 'sm-launch[text]'"
    )
