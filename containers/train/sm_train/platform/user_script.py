"""A user's own training script: the toolkit runs it as ever, and SIGTERM reaches it."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import types

from sm_train.contract import Paths, read_json
from sm_train.platform.stopping import children

PROGRAM = "sagemaker_program"
_TOOLKIT_LINE = r"[^\n]* sagemaker-training-toolkit [^\n]*\n"
_SHOWN_LINES = 12
_KEPT_BYTES = 8192
_PATIENCE_SECONDS = 2  # a process that the script left behind may keep its stderr open


def has_user_script(paths: Paths) -> bool:
    """Whether the job names a script of its own (SDK v2 hyperparameter, or SAGEMAKER_PROGRAM)."""
    hyperparameters = read_json(paths.config / "hyperparameters.json")
    return bool(hyperparameters.get(PROGRAM) or os.environ.get("SAGEMAKER_PROGRAM"))


class ScriptFailedError(Exception):
    """The user's script ended with an exit code other than 0."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def run_user_script() -> None:
    """Run it through the toolkit's script mode. Raises ScriptFailedError with its exit code."""
    from sagemaker_training import entry_point, environment, errors, runner

    signal.signal(signal.SIGTERM, _pass_on)
    settings = environment.Environment()
    with ErrorTail() as tail:
        try:
            entry_point.run(
                settings.module_dir,
                settings.user_entry_point,
                settings.to_cmd_args(),
                settings.to_env_vars(),
                runner_type=runner.RunnerType.Process,
            )
        except errors.ExecuteUserScriptError as error:
            code, command = int(error.return_code), error.cmd
        else:
            return
    code = 128 - code if code < 0 else code  # as a shell has it: 143 for SIGTERM
    raise ScriptFailedError(code, _reason(tail.text(), code, command))


def _reason(stderr: str, code: int, command: str) -> str:
    """The last line of the script's own error first: FailureReason shows only the beginning."""
    own = re.split(_TOOLKIT_LINE, stderr)[-1]  # the toolkit logs to the same place
    lines = [line for line in own.splitlines() if line.strip()]
    cause = lines[-1].strip() if lines else "the script wrote nothing to stderr"
    shown = "\n".join(lines[-_SHOWN_LINES:])
    return f"{cause} (exit code {code} of {command})\n\n{shown}"


class ErrorTail:
    """Passes on what is written to stderr, the script's too, and remembers the end of it."""

    def __enter__(self) -> ErrorTail:
        self._kept = b""
        self._terminal = os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._reader = threading.Thread(target=self._copy, args=(read,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()
        os.dup2(self._terminal, 2)  # the last writer of ours: the reader sees the end
        self._reader.join(_PATIENCE_SECONDS)

    def text(self) -> str:
        """The end of what was written."""
        return self._kept.decode("utf-8", "replace")

    def _copy(self, source: int) -> None:
        while chunk := os.read(source, 65536):
            os.write(self._terminal, chunk)
            self._kept = (self._kept + chunk)[-_KEPT_BYTES:]


def _pass_on(number: int, _frame: types.FrameType | None) -> None:
    for child in children(os.getpid()):
        os.kill(child, number)
