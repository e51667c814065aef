"""Write docs/environment.md: every variable that the two containers read, in two tables.

    .venv/bin/python infra/generate_environment.py

The serving container's rows are its settings themselves (sm_serve/config.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sm_serve.config import Variable, variables

TARGET = Path(__file__).parents[1] / "docs" / "environment.md"
_HEAD = """\
# Environment variables

<!-- Made by infra/generate_environment.py; change that, or the settings in sm_serve/config.py. -->

`training.environment` and `endpoint.environment` of job.yaml set them. A job's own settings are
hyperparameters, not variables: see [training](training.md).

"""
# Read by libraries, or by more than one setting of the server.
SERVING = (
    ("HF_MODEL_ID", "", "a model of the Hub, downloaded at start: OWNER/NAME"),
    ("HF_MODEL_REVISION", "main", "revision of that model"),
    ("HF_TOKEN", "", "token that may read that model"),
    ("SM_SERVE_VLLM_…", "vLLM's own", "vLLM's engine arguments, see serving.md"),
    (
        "OMP_NUM_THREADS",
        "the container's CPUs",
        "CPUs that a model on CPU takes, see Processors in serving.md",
    ),
    ("SAGEMAKER_SAFE_PORT_RANGE", "", "set by the platform: ports for members' processes"),
    ("TMPDIR", "Python's own, or /dev/shm", "temporary files; all others may be read-only"),
    (
        "GLIBC_TUNABLES",
        "memory in pages of 2 MiB",
        "glibc's allocator: where the kernel gives them on request (transparent huge pages)",
    ),
    ("GOMP_SPINCOUNT", "10000", "OpenMP's own: how long its threads wait busily"),
)
TRAINING = (
    ("SAGEMAKER_BASE_DIR", "/opt/ml", "input, model, output and checkpoints lie below it"),
    ("SAGEMAKER_PROGRAM", "", "a training script of your own, run in place of a method"),
    ("SAGEMAKER_TRAINING_MODULE", "sm_train.entry:main", "what the training toolkit starts"),
    ("TRAINING_JOB_NAME", "", "set by the platform: the job's name"),
    ("CUDA_VISIBLE_DEVICES", "all", "the GPUs that a job takes, one process each"),
    ("HF_TOKEN", "", "token for models and data sets of the Hub"),
    ("HF_ENDPOINT", "", "a mirror of the Hub"),
    ("HF_HUB_OFFLINE", "", "1: nothing is asked of the Hub"),
    ("NCCL_SOCKET_IFNAME", "of resourceconfig.json", "network interface between hosts"),
    ("GLOO_SOCKET_IFNAME", "of resourceconfig.json", "the same on CPUs"),
    (
        "OMP_NUM_THREADS",
        "1 where there are several processes, else the CPUs",
        "threads of a process",
    ),
    (
        "GLIBC_TUNABLES",
        "up to 1 GiB of freed memory is kept",
        "glibc's allocator: what one step frees, the next one gets again",
    ),
    ("TENSORBOARD_LOGGING_DIR", "output/data/tensorboard", "where TensorBoard's files go"),
    (
        "MLFLOW_TRACKING_URI",
        "",
        "with `report_to: mlflow`: URL of the server, or ARN of SageMaker's",
    ),
    ("MLFLOW_EXPERIMENT_NAME", "the launcher: job.yaml's name", "the experiment of new runs"),
    ("MLFLOW_RUN_ID", "the job's own run", "a run to go on with"),
    (
        "SM_TRAIN_MODEL_URI",
        "set by the launcher",
        "where the model will be, a tag of the MLflow run; {training_job} stands for the name",
    ),
    ("WANDB_API_KEY, MLFLOW_TRACKING_TOKEN, …", "", "of a tracker that `report_to` names"),
)


def render() -> str:
    """What docs/environment.md must hold."""
    own = [(v.name, v.shown or _shown(default, v), v.help) for v, default in variables().values()]
    serving = _table([*sorted(own), *SERVING])
    return f"{_HEAD}## Training\n\n{_table(TRAINING)}\n## Serving\n\n{serving}"


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *lines, ""])


def _shown(default: Any, variable: Variable) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return f"{default / variable.scale:.10g}"
    return "" if default is None else str(default)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
