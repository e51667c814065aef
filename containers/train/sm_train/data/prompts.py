"""`prompt_template`: a prompt built from several columns, such as "{instruction}\\n\\n{input}"."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sm_train.data.cells import text_of
from sm_train.errors import UserError

if TYPE_CHECKING:
    from sm_train.settings.settings import Config


def template_columns(template: str) -> list[str]:
    """The columns that a template names. Raises ValueError for a template that is broken."""
    names = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or name.isdecimal():
            raise ValueError("write each column as {name}, and braces as {{ and }}")
        names.append(name)
    return names


def filled(template: str, row: Mapping[str, Any]) -> str:
    """The template with a row's cells; one that is absent or null is empty text."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        value = None if name is None else text_of(row.get(name))
        if value is not None and not isinstance(value, str):
            raise ValueError(f"column {name}, which prompt_template names, holds no text")
        parts.append(text + (value or ""))
    return "".join(parts)


def check_prompt_template(config: Config) -> None:
    """Refuse a template that is broken, names no column, or has no meaning for the method."""
    template = config.job.prompt_template
    if template is None:
        return
    if not config.method.training_config.startswith("trl"):
        raise UserError(
            f"has no meaning for {config.method.name}, which reads no prompts",
            field="prompt_template",
            value=template,
            fix="remove it",
        )
    try:
        names = template_columns(template)
    except ValueError as error:
        raise _broken(template, str(error)) from error
    if not names:
        raise _broken(template, "it names no column: every prompt would be the same")


def _broken(template: str, why: str) -> UserError:
    return UserError(
        f"is no template: {why}",
        field="prompt_template",
        value=template,
        fix='write text with columns in braces, such as "{instruction}\\n\\n{input}"',
    )
