"""Test folders are no packages here: helpers are found beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from serving_fixtures import *  # noqa: F403
