"""The labels of a classifier and of its adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sm_serve.adapter_head import Head, head_size, read_head


def own_head(config: Any) -> Head:
    """The head of a loaded model, by its config."""
    labels = (str(config.id2label[index]) for index in range(config.num_labels))
    return Head(tuple(labels), config.problem_type)


def adapter_head(path: Path, base: Head, *, headless: bool) -> Head:
    """The head that answers with an adapter. Names that a base model without one has are no names.

    Raises StartupError.
    """
    return read_head(path, head_size(path), Head((), None) if headless else base)
