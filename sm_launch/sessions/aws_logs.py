"""CloudWatch Logs a piece at a time: every stream of a job, in the order of the clock."""

from __future__ import annotations

from typing import Any

from sm_launch.aws.errors import is_passing

# Cursor: log stream name to the token behind its last event that was read.
Cursor = dict[str, str]
_MISSING = "ResourceNotFoundException"
_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
# Pages of up to 10,000 events or 1 MB; a look takes so many of a stream at most, the next goes on.
_PAGES_PER_LOOK = 20


def read_group(
    client: Any, group: str, prefix: str, cursor: Any, *, later: bool = True
) -> tuple[list[str], Cursor]:
    """The lines that are new in a log group since the last look.

    A missing group or stream has no lines yet. Missing permission is said once, as a line.

    Args:
        client: boto3's `logs` client.
        group: log group.
        prefix: what the streams' names begin with; empty for all.
        cursor: what the last look returned, or None at the first.
        later: when the service throttles or cannot be reached the lines come with a later look;
            False raises.

    Returns:
        Lines, oldest first, each led by its host where there are several, and the next cursor.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    tokens: Cursor = dict(cursor or {})
    events: list[tuple[int, int, str, str]] = []
    try:
        streams = _streams(client, group, prefix)
        for stream in streams:
            _read_stream(client, group, stream, tokens, events)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _DENIED and "" not in tokens:
            tokens[""] = "said"
            message = error.response["Error"].get("Message", "no permission")
            return [f"(the log cannot be read: {message})"], tokens
        if code not in _DENIED | {_MISSING} and not (later and is_passing(error)):
            raise
    except BotoCoreError as error:
        if not (later and is_passing(error)):
            raise
    several = len(tokens) - ("" in tokens) > 1
    events.sort()
    return [_line(stream, message, several) for _, _, stream, message in events], tokens


def _streams(client: Any, group: str, prefix: str) -> list[str]:
    query: dict[str, Any] = {"logGroupName": group}
    if prefix:
        query["logStreamNamePrefix"] = prefix
    pages = client.get_paginator("describe_log_streams").paginate(**query)
    return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]


def _read_stream(
    client: Any,
    group: str,
    stream: str,
    tokens: Cursor,
    events: list[tuple[int, int, str, str]],
) -> None:
    for _ in range(_PAGES_PER_LOOK):
        query = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        if stream in tokens:
            query["nextToken"] = tokens[stream]
        answer = client.get_log_events(**query)
        for event in answer["events"]:
            # The count keeps the order of events of the same millisecond.
            events.append((event["timestamp"], len(events), stream, event["message"]))
        token = answer["nextForwardToken"]
        # The end of a stream gives back the token that was sent.
        if token == tokens.get(stream):
            return
        tokens[stream] = token


def _line(stream: str, message: str, several: bool) -> str:
    text = message.rstrip("\r\n")
    if not several:
        return text
    host = stream.rsplit("/", 1)[-1].rsplit("-", 1)[0]
    return f"[{host}] {text}"
