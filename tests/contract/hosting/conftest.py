"""The hosting contract is tested on the same servers as the rest."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "process" / "serving"))

from serving_fixtures import *  # noqa: F403
