"""Objects on S3 by their URI."""

from __future__ import annotations

import re


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key, or key prefix, of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


# S3 user guide, "Directory bucket naming rules" and "Access point aliases": how such names end.
DIRECTORY_BUCKET, ACCESS_POINT_ALIAS = "--x-s3", "-s3alias"
# S3 user guide, "Accessing a bucket": its ARN, and its addresses by host and by path.
_OTHER_FORMS = (
    r"arn:[\w-]+:s3:::(?P<place>[^*?]+)",
    r"https?://(?P<bucket>[a-z0-9.-]+)\.s3[.-][\w.-]*amazonaws\.com(\.cn)?/(?P<key>[^?]*)",
    r"https?://s3[.-][\w.-]*amazonaws\.com(\.cn)?/(?P<place>[^?]+)",
    r"(?i:s3):/*(?P<place>[^/].*)",
)


def meant(location: str) -> str:
    """The s3:// URI of what names a place on S3 in another form; empty where it names none."""
    for form in _OTHER_FORMS:
        if match := re.fullmatch(form, location):
            parts = match.groupdict()
            return f"s3://{parts.get('place') or '/'.join((parts['bucket'], parts['key']))}"
    return ""
