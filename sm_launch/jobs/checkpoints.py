"""What a training job that has ended left to go on from."""

from __future__ import annotations

from typing import Any

from sm_launch.job.hyperparameter_names import PROGRAM
from sm_launch.job.hyperparameters import OUR_IMAGE
from sm_launch.job.naming import LOCAL_TRAINING_IMAGE
from sm_launch.sessions.protocol import Session
from sm_launch.target.staging import local_path

_OURS = "checkpoint-"
"""What the training container's directories of checkpoints begin with; a script names its own, and
so does another image."""


def kept(session: Session, description: dict[str, Any]) -> bool | None:
    """Whether a job has left a checkpoint; None where that cannot be looked up.

    A place for them is not enough: a job that failed before its first one has left none there.

    Args:
        session: where it ran.
        description: of the job, as DescribeTrainingJob has it.
    """
    uri = description.get("CheckpointConfig", {}).get("S3Uri")
    if uri is None:
        return False
    image = description.get("AlgorithmSpecification", {}).get("TrainingImage", "")
    own = image == LOCAL_TRAINING_IMAGE or OUR_IMAGE.search(image)
    begins = _OURS if own and PROGRAM not in description.get("HyperParameters", {}) else ""
    if not uri.startswith("s3://"):
        place = local_path(uri)
        # A job that runs as root in a container may leave what others cannot look into.
        try:
            return any(path.name.startswith(begins) for path in place.iterdir())
        except FileNotFoundError:
            return False
        except OSError:
            return None
    return session.has_objects(f"{uri.rstrip('/')}/{begins}")
