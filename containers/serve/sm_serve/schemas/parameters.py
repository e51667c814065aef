"""How tokens are chosen: what is said alike in every format."""

from __future__ import annotations

from typing import Any

from sm_serve.protocol import Sampling
from sm_serve.schemas.constraints import read_constraint
from sm_serve.schemas.fields import Values


def read_penalties(fields: Values, defaults: Sampling) -> dict[str, Any]:
    """Keywords of Sampling: penalties, biases, constraint and seed."""
    biases = fields.get("logit_bias", {})
    return {
        "repetition_penalty": fields.number("repetition_penalty", defaults.repetition_penalty),
        "frequency_penalty": fields.number("frequency_penalty", 0.0),
        "presence_penalty": fields.number("presence_penalty", 0.0),
        "logit_bias": tuple(sorted((int(token), float(bias)) for token, bias in biases.items())),
        "constraint": read_constraint(fields),
        "seed": fields.get("seed"),
    }
