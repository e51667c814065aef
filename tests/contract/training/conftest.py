"""The training contract is tested on the same jobs and tiny models as the rest."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[2] / "process" / "training" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("training_fixtures", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_jobs = importlib.util.module_from_spec(_SPEC)
sys.modules["training_fixtures"] = _jobs
_SPEC.loader.exec_module(_jobs)

decoder = _jobs.decoder
encoders = _jobs.encoders
new_job = _jobs.new_job
one_thread = _jobs.one_thread
sentiment = _jobs.sentiment
session_job = _jobs.session_job
