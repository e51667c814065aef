"""`python -m sm_serve` is the `serve` command."""

import sys

from sm_serve.main import main

if __name__ == "__main__":
    sys.exit(main())
