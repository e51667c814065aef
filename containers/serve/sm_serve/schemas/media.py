"""Content types: what a body is, and what to answer with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from encodings.aliases import aliases

from sm_serve.errors import NotAcceptable, UnsupportedMediaType

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
TEXT = "text/plain"
NPY = "application/x-npy"
NPZ = "application/x-npz"
EVENT_STREAM = "text/event-stream"
ANY = "*/*"

ALIASES = {
    "application/x-jsonlines": JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "text/json": JSON,
    "application/csv": CSV,
}
CHARSETS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "ascii")
"""What bodies may be encoded in, by Python's names."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type without parameters, in lower case, and its charset."""

    type: str
    charset: str = "utf-8"


PLAIN_JSON = MediaType(JSON)


def parse_media_type(header: str | None, default: str = JSON) -> MediaType:
    """Reads a Content-Type header; absent means JSON, as the toolkit has it.

    Raises UnsupportedMediaType for a charset that is not one of CHARSETS.
    """
    if header == JSON:
        return PLAIN_JSON
    if not header or not header.strip():
        return MediaType(default)
    name, *parameters = header.split(";")
    name = name.strip().lower()
    charset = "utf-8"
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            charset = value.strip().strip("\"'")
    return MediaType(ALIASES.get(name, name), _known_charset(charset, header))


def _known_charset(charset: str, header: str) -> str:
    """Python's name of a charset on the list. Others are refused, as some take minutes to decode
    (idna, punycode), and some let through what is no text (utf-7, unicode_escape)."""
    wanted = re.sub(r"[^a-z0-9.]+", "_", charset.lower())
    wanted = aliases.get(wanted, wanted)
    for name in CHARSETS:
        if wanted == name.replace("-", "_"):
            return name
    raise UnsupportedMediaType(
        f"Content-Type {header[:100]!r}: charset {charset[:40]!r} is not taken: use one of"
        f" {', '.join(CHARSETS)}"
    )


def choose_accept(header: str | None, offered: Sequence[str], default: str) -> str:
    """The best type in `offered` for an Accept header; `default` where the client does not care.

    Raises NotAcceptable when nothing matches.
    """
    if not header or header == ANY:
        return default
    if header in offered:
        return header
    choices = []
    for position, part in enumerate(header.split(",")):
        name, *parameters = part.split(";")
        name = name.strip().lower()
        choices.append((-_quality(parameters), position, ALIASES.get(name, name)))
    for quality, _, name in sorted(choices):
        if quality == 0:
            continue
        if name == ANY:
            return default
        if name in offered:
            return name
        if name.endswith("/*"):
            family = name[:-1]
            matches = [kind for kind in (default, *offered) if kind.startswith(family)]
            if matches:
                return matches[0]
    raise NotAcceptable(f"Accept {header!r}: we answer with {', '.join(offered)}")


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0
