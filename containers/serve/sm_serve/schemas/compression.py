"""Compressed bodies, unpacked within the payload limit."""

from __future__ import annotations

import zlib

from sm_serve.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits, which say the format as well."""
PIECE = 4096
"""Bytes that are unpacked at a time: what is left of them after a member's end is copied."""


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding.

    Raises UnsupportedMediaType for a coding that is not read here, BadRequest for bytes that are
    not of it, PayloadTooLarge where more than `limit` bytes come out: a small body must not fill
    the memory.
    """
    names = codings(encoding)
    if not names:
        return body
    if len(names) > 1 or names[0] not in WINDOWS:
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding[:40]!r} is not supported: send the body by gzip,"
            " by deflate or uncompressed"
        )
    try:
        return _unpack(body, names[0], limit)
    except zlib.error as error:
        raise BadRequest(
            f"the body is not {names[0]}, as Content-Encoding says: {error}"
        ) from error


def codings(encoding: str) -> list[str]:
    """The codings that a Content-Encoding header names, without those that change nothing."""
    names = [name.strip().lower() for name in encoding.split(",")]
    return [name for name in names if name not in ("", "identity")]


def _unpack(body: bytes, name: str, limit: int) -> bytes:
    """Member after member. Never more than `limit` bytes and one are held."""
    unpacked = bytearray()
    packer = zlib.decompressobj(WINDOWS[name])
    place = 0
    while place < len(body):
        if packer.eof:
            packer = zlib.decompressobj(WINDOWS[name])
        piece = body[place : place + PIECE]
        unpacked += packer.decompress(piece, limit + 1 - len(unpacked))
        if len(unpacked) > limit:
            raise PayloadTooLarge(f"the body is over {limit} bytes once it is unpacked: split it")
        place += len(piece) - len(packer.unused_data) - len(packer.unconsumed_tail)
    if not packer.eof:
        raise BadRequest(f"the body ends in the middle of its {name} data")
    return bytes(unpacked)
