"""Errors that a user can act on: each says what is wrong, with which value, and the fix."""

from __future__ import annotations

from typing import Any, Self


class LaunchError(Exception):
    """Something failed in a way that a user can understand and mend.

    Args:
        message: what is wrong, in one sentence.
        field: the configuration key, column or option concerned, if there is one.
        value: the offending value, shown with `repr`.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: object = None,
        fix: str | None = None,
    ) -> None:
        self.message = message
        self.field = field
        self.value = value
        self.fix = fix
        super().__init__(self._render())

    def with_fix(self, fix: str) -> Self:
        """The same error with another fix."""
        # Not copy.copy: it calls the class as `args` say, which not every kind of error takes.
        changed = type(self).__new__(type(self))
        changed.__dict__.update(self.__dict__)
        changed.fix = fix
        changed.args = (changed._render(),)
        return changed

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        keys = ("message", "field", "value", "fix", "exit_code")
        return {key: getattr(self, key) for key in keys}

    def _render(self) -> str:
        where = f"{self.field}: " if self.field else ""
        got = f" (got {self.value!r})" if self.value is not None else ""
        fix = f"\n  fix: {self.fix}" if self.fix else ""
        return f"{where}{self.message}{got}{fix}"


class UserInputError(LaunchError):
    """The configuration, the command line or the data given by the user is at fault."""

    exit_code = 2


class QualityGateError(LaunchError):
    """The model was measured, and is not as good as was demanded.

    Attributes:
        result: what was measured: an EvaluationResult or a Comparison.
    """

    exit_code = 3

    def __init__(self, message: str, *, result: object = None, **said: Any) -> None:
        self.result = result
        super().__init__(message, **said)
