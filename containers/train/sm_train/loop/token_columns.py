"""A row as its method's trainer takes it: columns of tokens, and what is counted of them."""

from __future__ import annotations

from typing import Any

from sm_train.modelling.sequences import row_tokens

NOTHING_LEFT = "no learnt token is left: the prompt alone fills max_length"
NOTHING_LEARNT = "no token of it is learnt"
COUNTED = ("cut", "tokens", "learnt", "differs")


def token_columns(row: dict[str, Any], config: Any, tokenizer: Any) -> dict[str, Any]:
    """A row as its method's trainer takes it, and the counts of its sequences."""
    try:
        sequences = row_tokens(row, config, tokenizer)
    except ValueError as error:
        return {
            **config.method.columns(row, []),
            **dict.fromkeys(COUNTED, 0),
            "reason": str(error),
        }
    reason = ""
    if any(tokens.learnt_count == 0 for tokens in sequences):
        reason = NOTHING_LEFT if any(tokens.cut for tokens in sequences) else NOTHING_LEARNT
    return {
        **config.method.columns(row, sequences),
        "cut": sum(tokens.cut for tokens in sequences),
        "tokens": sum(len(tokens.ids) for tokens in sequences),
        "learnt": sum(tokens.learnt_count for tokens in sequences),
        "differs": int(any(tokens.differs for tokens in sequences)),
        "reason": reason,
    }
