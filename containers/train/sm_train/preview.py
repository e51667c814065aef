"""`python -m sm_train.preview`: an ordinary job's rows as the model sees them, and nothing trained.

It reads an ordinary base directory (SAGEMAKER_BASE_DIR). No model is loaded.
"""

from __future__ import annotations

import argparse
import sys
import time

from sm_train.errors import UserError
from sm_train.modelling.preview import ROWS, preview


def main(arguments: list[str] | None = None) -> int:
    """Print the preview of the job under SAGEMAKER_BASE_DIR; 1 when it would be refused."""
    parser = argparse.ArgumentParser(prog="python -m sm_train.preview", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of each channel")
    rows = parser.parse_args(arguments).rows
    from sm_train.contract import Paths
    from sm_train.entry import checked_job
    from sm_train.platform.stopping import StopRequest

    try:
        job = checked_job(Paths.from_environment(), StopRequest(), time.time())
        from sm_train.log import quiet_libraries
        from sm_train.modelling.model import load_tokenizer

        quiet_libraries()
        for line in preview(job.config, load_tokenizer(job), job.data, rows):
            sys.stdout.write(line + "\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
