"""Secrets reach no terminal, log, report or record: recognised by form, by name and by value.

sm_train has a copy of this file, since the packages share no code; a test holds them equal.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

MASK = "[redacted]"
_SHORTEST = 8

# Tokens that say by their form what they are: their makers gave them prefixes for that purpose.
TOKEN_FORMS = re.compile(
    r"""
    (?<![A-Za-z0-9])(?:
      (?:hf|api_org)_[A-Za-z0-9]{16,}                        # Hugging Face
    | sk-(?=[\w-]{0,200}\d)[\w-]{16,}                              # OpenAI, Anthropic, OpenRouter
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,}        # GitHub
    | glpat-[\w-]{16,}                                       # GitLab
    | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])     # AWS access keys
    | (?:FwoGZXIvYXdz|FQoGZXIvYXdz|IQoJb3JpZ2lu)[\w+/=%-]{16,}  # AWS session tokens
    | xox[abeoprs]-[\w-]{10,}                                # Slack
    | AIza[\w-]{35}                                          # Google
    | (?:nvapi-|gsk_|r8_|npm_|pypi-|dckr_pat_)[\w-]{16,}     # NVIDIA, Groq, Replicate, registries
    | eyJ[\w-]{8,512}\.eyJ[\w-]{8,4096}\.[\w-]+                     # JSON web tokens
    )
    """,
    re.VERBOSE,
)
PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:(?!-----END).)*(?=-----END|\Z)", re.DOTALL
)
# https://user:password@host; the password goes to the last @ before the path.
_IN_URL = re.compile(r"""(?P<head>://[^\s/:@"'<>\\]*:)[^\s/"'<>\\]+(?=@)""")
_HEADER = re.compile(
    r"(?P<head>\b(?:bearer|basic)\s+)(?:(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})",
    re.IGNORECASE,
)

# Names of secrets, as the end of a longer one: AWS_SECRET_ACCESS_KEY, db.password, xApiKey. The
# word `secret` with a value right behind its colon is a reference (secret:ID), no value.
_KEYS = r"(?:api|access|secret|private|account|signing|secret[_-]?access)[_-]?key(?:[_-]?id)?"
_PASSWORDS = (
    r"passw(?:or)?d|passphrase|client[_-]?secret|(?:(?<![A-Za-z0-9])|[_-])secret(?!:\S)"
    r"|credentials?"
)
_TOKENS = (
    r"(?:hf|hub|huggingface(?:[_-]?hub)?|access|auth|api|session|security|refresh|bearer|private"
    r"|github|gh|gitlab|wandb|slack|bot|oauth|client|service|user)[_-]?token"
)
_SIGNED = r"X-Amz-(?:Signature|Credential|Security-Token)|authorization"
# What a tokenizer calls a token (eos_token, max_tokens) is none of these: those names need a value
# that looks like a secret, or capital letters, as environment variables have.
_NAME = rf"(?:{_KEYS}|{_PASSWORDS}|{_TOKENS}|{_SIGNED}|(?-i:[A-Z0-9]_TOKEN|\bTOKEN|_PAT))"
_LOOKS_RANDOM = r"(?=[\w.~+/=-]{0,200}\d)(?=[\w.~+/=-]{0,200}[A-Za-z])[\w.~+/=-]{20,}"
_SCHEME = r"(?:(?:bearer|basic|token)\s+)?"
_NOT = r"(?!(?:env|secret):|(?:null|none|true|false)\b|\[redacted\])"
_ESCAPED = r"""(?<=&quot;)[^&<]+|(?<=&\#x27;)[^&<]+"""  # in a page of HTML
_IN_QUOTES = rf"""(?:{_ESCAPED}|(?<=")(?:\\.|[^"\\])+|(?<=')(?:\\.|[^'\\])+)"""
_ONE_WORD = r"""[^\s"',;&{}\[\]\\][^\s"',;&}\]\\]*"""
_QUOTE = r"""\\*(?:["']|&quot;|&\#x27;)"""
_QUOTED = re.compile(  # "name": "value", as JSON and Python write it
    rf"(?P<head>{_NAME}{_QUOTE}\s*[:=]\s*{_QUOTE}{_SCHEME}){_NOT}{_IN_QUOTES}", re.IGNORECASE
)
_PLAIN = re.compile(  # name=value, name: value, name="value"
    rf"(?P<head>{_NAME}\s*[:=]\s*{_SCHEME}){_NOT}{_ONE_WORD}"
    rf"|(?P<quoted>{_NAME}\s*[:=]\s*{_QUOTE}{_SCHEME}){_NOT}{_IN_QUOTES}(?={_QUOTE})",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?P<head>(?<![\w-])--[\w-]*(?:{_KEYS}|{_PASSWORDS}|token)(?:=|\s+)){_NOT}[^\s\"'-][^\s\"']*",
    re.IGNORECASE,
)
_ANY_TOKEN = re.compile(
    rf"(?P<head>token(?:{_QUOTE})?\s*[:=]\s*(?:{_QUOTE})?){_NOT}{_LOOKS_RANDOM}",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(rf".*{_NAME}", re.IGNORECASE | re.DOTALL)
_REFERENCES = ("env:", "secret:")


def redact(text: str) -> str:
    """The text without secrets; those of this process's environment are found by value."""
    return _redact(text, _of_this_process())


def redact_value(value: Any) -> Any:
    """The same for what will become JSON: every text in it, and every value of a secret name."""
    return _redact_value(value, _of_this_process())


def _of_this_process() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _is_secret_name(name)
    ]


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    return bool(_SECRET_NAME.fullmatch(name))


def _redact(text: str, known: list[str]) -> str:
    for value in known:
        text = text.replace(value, MASK)
    text = PRIVATE_KEY.sub(lambda match: match[1] + MASK, text)
    text = TOKEN_FORMS.sub(MASK, text)
    for pattern in (_IN_URL, _QUOTED, _PLAIN, _ANY_TOKEN, _OPTION, _HEADER):
        text = pattern.sub(lambda match: _head(match) + MASK, text)
    return text


def _head(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups["head"] or groups.get("quoted") or ""


def _redact_value(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _member(key, member, known) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(member, known) for member in value]
    return _redact(value, known) if isinstance(value, str) else value


def _member(key: Any, value: Any, known: list[str]) -> Any:
    named = isinstance(key, str) and _is_secret_name(key)
    if named and isinstance(value, str) and value and not value.startswith(_REFERENCES):
        return MASK
    return _redact_value(value, known)
