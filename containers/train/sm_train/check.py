"""`python -m sm_train.check`: what a job's settings would be refused for, before there is a job.

Reads the hyperparameters as a JSON object from stdin and writes the refusal as one (`message`,
`field`, `value`, `fix`), or null. It needs neither torch nor any other package of the image, nor
its channels: the launcher asks it before anything is sent.
"""

from __future__ import annotations

import json
import sys

from sm_train.config import parse_config
from sm_train.errors import UserError


def main() -> None:
    """Check the settings on stdin."""
    try:
        parse_config(json.load(sys.stdin), here=False)
    except UserError as error:
        names = ("message", "field", "value", "fix")
        refusal = {name: getattr(error, name) for name in names}
        json.dump(refusal, sys.stdout, default=str)
    else:
        json.dump(None, sys.stdout)


if __name__ == "__main__":
    main()
