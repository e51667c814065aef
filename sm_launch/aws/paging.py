"""List calls, read to their end: SageMaker gives 10 entries a page where nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sm_launch.errors import LaunchError

# ListTrainingJobs, ListEndpoints, …: the most that MaxResults may ask for.
PAGE_SIZE = 100


def every(list_call: Callable[..., Any], items: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Every entry of a SageMaker List call, page after page.

    Args:
        list_call: a session's or client's bound method, such as `session.list_endpoints`.
        items: key of the answer that holds the entries.
        query: the call's own arguments.

    Raises:
        LaunchError: the service gives the same page again and again.
    """
    query = {"MaxResults": PAGE_SIZE, **query}
    while True:
        answer = list_call(**query)
        yield from answer.get(items, [])
        token = answer.get("NextToken")
        if not token:
            return
        if token == query.get("NextToken"):
            raise LaunchError(
                f"the list of {items} does not end: a page names itself as the next one",
                field="NextToken",
                fix="run the same command again",
            )
        query["NextToken"] = token
