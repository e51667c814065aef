"""The schemas of the methods' hyperparameters, as `sm_train.methods.schema` wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "schemas"


def load_schema(method: str) -> dict[str, Any]:
    """The schema that was generated for a method."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{method}.json").read_text(encoding="utf-8"))
    return schema
