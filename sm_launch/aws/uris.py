"""Objects on S3 by their URI."""

from __future__ import annotations


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key, or key prefix, of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


# S3 user guide, "Directory bucket naming rules" and "Access point aliases": how such names end.
DIRECTORY_BUCKET, ACCESS_POINT_ALIAS = "--x-s3", "-s3alias"
