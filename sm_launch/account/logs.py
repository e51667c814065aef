"""The log of whatever has a name: a training job, a transform job or an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sm_launch.aws.errors import LISTING, is_missing
from sm_launch.errors import LaunchError
from sm_launch.sessions.watching import watch
from sm_launch.target.context import JobContext

Reader = Callable[[str, Any], tuple[list[str], Any]]


class Log:
    """The lines so far, and those to come.

    Args:
        context: where the job or endpoint is.
        name: of it.

    Raises:
        LaunchError: there is nothing of this name, nor a log of it.

    Attributes:
        lines: what was there at the first look.
    """

    def __init__(self, context: JobContext, name: str) -> None:
        self._name = name
        self._session = context.session
        self._read, self.lines, self._cursor = self._first(context.where)

    def follow(self) -> Iterator[str]:
        """Every line, and new ones as they come; it has no end of its own."""
        yield from self.lines
        for lines in watch(self._more, lambda lines: False, self._session.seconds_between_looks):
            yield from lines

    def _more(self) -> list[str]:
        lines, self._cursor = self._read(self._name, self._cursor)
        return lines

    def _first(self, where: str) -> tuple[Reader, list[str], Any]:
        """The reader that knows the name, with what it read."""
        session = self._session
        for reader in (
            session.training_log_lines,
            session.transform_log_lines,
            session.endpoint_log_lines,
        ):
            try:
                return reader, *reader(self._name, None)
            except LaunchError:
                continue
            except Exception as error:
                if not is_missing(error):
                    raise
        raise LaunchError(
            f"there is no training job, transform job or endpoint of this name ({where})",
            value=self._name,
            fix=LISTING,
        )
