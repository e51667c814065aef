"""Secrets never reach a terminal or a log: tokens are recognised by form and by name."""

from __future__ import annotations

import os
import re

MASK = "[redacted]"
# Hugging Face tokens, and secret-looking values in JSON or NAME=VALUE.
_TOKEN = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{16,}\b")
_NAMED = re.compile(
    r"""(?P<name>\b[A-Z0-9_]*(?:_TOKEN|API_KEY|PASSWORD|SECRET_ACCESS_KEY|_SECRET)\b"?"""
    r"""\s*[:=]\s*"?)(?P<value>(?!(?:env|secret):)(?:(?<=")[^"]+|[^\s"',}]+))"""
)
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY")
_SHORTEST = 8


def redact(text: str) -> str:
    """The text without secrets; those of this process's environment are found by value."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
    text = _TOKEN.sub(MASK, text)
    return _NAMED.sub(lambda found: found["name"] + MASK, text)
