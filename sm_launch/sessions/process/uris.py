"""`file://` URIs, which stand for `s3://` ones in local requests."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sm_launch.errors import UserInputError


def to_path(uri: str, field: str) -> Path:
    """The absolute path that a `file://` URI names.

    Raises:
        UserInputError: any other scheme, a host, or a relative path.
    """
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and path.is_absolute():
        return path
    raise UserInputError(
        "is not a file:// URI with an absolute path; the process target reads local files only",
        field=field,
        value=uri,
        fix="give a local path, or run this job on SageMaker (--target sagemaker)",
    )


def join(uri: str, *parts: str) -> str:
    """`parts` below `uri`, with single slashes between them."""
    return "/".join([uri.rstrip("/"), *parts])
