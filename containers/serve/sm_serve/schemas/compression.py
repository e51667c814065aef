"""Compressed bodies, unpacked within the payload limit."""

from __future__ import annotations

import zlib

from sm_serve.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's window bits, which say the format as well."""


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding.

    Raises UnsupportedMediaType for a coding that is not read here, BadRequest for bytes that are
    not of it, PayloadTooLarge where more than `limit` bytes come out: a small body must not fill
    the memory.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return body
    if len(names) > 1 or names[0] not in WINDOWS:
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding[:40]!r} is not supported: send the body by gzip,"
            " by deflate or uncompressed"
        )
    found = bytearray()
    rest = body
    try:
        while rest or not found:
            packer = zlib.decompressobj(WINDOWS[names[0]])
            found += packer.decompress(rest, limit + 1 - len(found))
            if len(found) > limit:
                raise PayloadTooLarge(
                    f"the body is over {limit} bytes once it is unpacked: split it"
                )
            if not packer.eof:
                raise BadRequest(f"the body ends in the middle of its {names[0]} data")
            rest = packer.unused_data
            if not found and not rest:
                break
    except zlib.error as error:
        raise BadRequest(
            f"the body is not {names[0]}, as Content-Encoding says: {error}"
        ) from error
    return bytes(found)
