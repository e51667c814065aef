"""What each container of a Processing job on several instances runs.

python3 -m sm_launch.jobs.processing_host job.yaml
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import click

from sm_launch.data import cluster, spread
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.config import JobConfig, load_config
from sm_launch.redaction import redact

MESSAGE = Path("/opt/ml/output/message")
"""Its first KB becomes ExitMessage ("Save and Access Metadata Information About Your Processing
Job", SageMaker developer guide)."""
_MESSAGE_CHARACTERS = 900


def main(arguments: list[str]) -> int:
    """Prepare the data together with the other containers; returns the exit code."""
    try:
        members = cluster.Members.read()
        run(load_config(Path(arguments[0])), members)
    except LaunchError as error:
        return _failed(redact(str(error)), error.exit_code)
    except Exception:
        return _failed(redact(traceback.format_exc()), 1)
    return 0


def run(
    config: JobConfig,
    members: cluster.Members,
    *,
    port: int = cluster.PORT,
    wait_seconds: float = cluster.WAIT_SECONDS,
) -> None:
    """Do this machine's part.

    Raises:
        LaunchError: the preparation failed, here or elsewhere.
    """
    if config.data is None:
        raise UserInputError("is needed to prepare data", field="data", fix="name the raw files")
    if not members.leads:
        cluster.serve(members, port=port, wait_seconds=wait_seconds)
        return
    output = config.prepared_path
    with cluster.lead(members, config.data, output, port=port, wait_seconds=wait_seconds) as hosts:
        report = spread.prepare(config.data, output, hosts, tell=_tell)
    click.echo(report.render())


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _failed(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    # What the service shows of a failed job; only a container of one has the directory.
    if MESSAGE.parent.is_dir():
        MESSAGE.write_text(message[:_MESSAGE_CHARACTERS], encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
