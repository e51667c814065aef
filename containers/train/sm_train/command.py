"""The `train` command: the platform's files are looked at, then the toolkit starts the job.

The toolkit reads them before it calls us, and answers a broken one with a traceback.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sm_train.contract import FAILURE_CHARACTERS, Paths, check_input_modes, read_cluster, read_json
from sm_train.errors import UserError
from sm_train.platform.compat import start_compatibly
from sm_train.platform.failure import reserve, write_failure

_FILES = {
    "hyperparameters.json": '{"name": "value"}',
    "inputdataconfig.json": '{"train": {}}',
    "resourceconfig.json": '{"current_host": "algo-1", "hosts": ["algo-1"]}',
}
_ERROR_LINE = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt): ")
_TOOLKIT_FAILURE = "Framework Error:"


def main() -> None:
    """Run the job; exits non-zero unless it succeeded."""
    start_compatibly()
    paths = Paths.from_environment()
    reserve(paths)
    try:
        check_platform_files(paths)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        paths.failure.unlink(missing_ok=True)  # an earlier run's
        write_failure(paths, str(error))
        sys.exit(1)
    from sagemaker_training.cli.train import main as start

    try:
        start()
    finally:
        put_cause_first(paths.failure)


def check_platform_files(paths: Paths) -> None:
    """Raise UserError for a file that is missing, no JSON object, or without hosts."""
    for name, example in _FILES.items():
        if not (paths.config / name).is_file():
            raise UserError(
                f"is missing in {paths.config}",
                field=name,
                fix=f"SageMaker writes it; by hand, write for example {example}",
            )
    read_json(paths.config / "hyperparameters.json")
    cluster = read_json(paths.config / "resourceconfig.json")
    for key in ("current_host", "hosts"):
        if key not in cluster:
            raise UserError("is missing", field=f"resourceconfig.json {key}")
    read_cluster(paths)
    check_input_modes(paths)
    for name in ("hyperparameters.json", "inputdataconfig.json"):
        _check_not_blank(paths.config / name)


def _check_not_blank(path: Path) -> None:
    if not path.read_text(encoding="utf-8").strip():
        raise UserError("is empty", field=path.name, fix=f"write {_FILES[path.name]}")


def put_cause_first(failure: Path) -> None:
    """The toolkit's own failures begin with a traceback: FailureReason would show nothing else."""
    try:
        text = failure.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if not text.startswith(_TOOLKIT_FAILURE) or not lines:
        return
    cause = next((line for line in reversed(lines) if _ERROR_LINE.match(line)), lines[-1])
    failure.write_text(f"{cause}\n\n{text}"[:FAILURE_CHARACTERS], encoding="utf-8")
