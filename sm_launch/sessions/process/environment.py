"""The environment of a container's process: a small one, made from the request.

Nothing of the caller's shell reaches the job unless it says something about this machine: no AWS
credentials, no PYTHONPATH. What a job needs beyond that belongs into the request's Environment,
as it does on SageMaker.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

from sm_launch.sessions.references import resolve

DEFAULT_TRAINING_MODULE = "sm_train.entry:main"
TRAINING_MODULE_VARIABLE = "SAGEMAKER_TRAINING_MODULE"
PROGRAM_HYPERPARAMETER = "sagemaker_program"
SUBMIT_DIRECTORY = "sagemaker_submit_directory"

# huggingface_hub.constants and datasets.config read these; transformers asks the former.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""What containers and processes that are to reach nothing tell the libraries in them."""

KEPT_MEMORY = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=1073741824"
"""GLIBC_TUNABLES of training, as in its image: what one step frees, the next one gets again. By
itself glibc gives large tensors back, and the kernel fills all their pages with zeros once more."""

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""GLIBC_TUNABLES of serving, as in its image: memory in pages of 2 MiB where the kernel has them. A
step of generation reads all weights, and so looks fewer pages up."""

# Facts about this machine: network, certificates, devices, threads, caches.
_KEPT = frozenset(
    {
        "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
        "http_proxy", "https_proxy", "no_proxy", "all_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE",
        "XDG_CACHE_HOME", "TORCH_HOME",
        "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    }
)  # fmt: skip


def scripts_directory() -> Path:
    """Where this interpreter's environment keeps its console scripts."""
    # Not resolved: a virtual environment's python is a link to the system's.
    return Path(sys.executable).parent


def base_environment(base: Path, request_environment: Mapping[str, str]) -> dict[str, str]:
    """What both `train` and `serve` get."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    path = [str(scripts_directory()), os.environ.get("PATH", os.defpath)]
    return {
        **kept,
        "PATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",  # as in the images: a log is read while the job runs
        "AWS_EC2_METADATA_DISABLED": "true",  # there is none, and asking for it takes seconds
        **resolve(request_environment),
        "SAGEMAKER_BASE_DIR": str(base),
    }


def training_environment(
    base: Path,
    request_environment: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    *,
    name: str,
    arn: str,
) -> dict[str, str]:
    """What `train` gets.

    The toolkit runs our entry point in-process unless the request names another one, or brings a
    script of its own (`sagemaker_program`).
    """
    environment = base_environment(base, request_environment)
    if PROGRAM_HYPERPARAMETER not in hyperparameters:
        environment.setdefault(TRAINING_MODULE_VARIABLE, DEFAULT_TRAINING_MODULE)
    else:
        environment |= _own_packages(base, environment.get("PYTHONPATH", ""))
    environment.setdefault("GLIBC_TUNABLES", KEPT_MEMORY)
    environment |= {
        "TRAINING_JOB_NAME": name,
        "TRAINING_JOB_ARN": arn,
        # The toolkit would wait up to 15 minutes for the host's DNS name.
        "SM_STUDIO_LOCAL_MODE": "true",
    }
    return environment


def _own_packages(base: Path, search_path: str) -> dict[str, str]:
    """Where pip puts what a script's requirements.txt lists: beside the job, not into this Python.

    What is installed here stays as it is: it satisfies what it can, and a requirement of another
    version is pip's error.
    """
    prefix = base / "packages"
    constraints = base / "installed.txt"
    installed = {each.name: each.version for each in distributions() if each.name}
    constraints.write_text("".join(f"{name}=={have}\n" for name, have in installed.items()))
    scheme = sysconfig.get_preferred_scheme("prefix")
    places = {"base": str(prefix), "platbase": str(prefix)}
    where = dict.fromkeys(
        sysconfig.get_path(kind, scheme, places) for kind in ("purelib", "platlib")
    )
    return {
        "PIP_PREFIX": str(prefix),
        "PIP_CONSTRAINT": str(constraints),
        "PYTHONPATH": os.pathsep.join([*where, *([search_path] if search_path else [])]),
    }


def local_hyperparameters(values: Mapping[str, str], base: Path) -> dict[str, str]:
    """As hosted SageMaker gives them, but a user's script lies below `base`, not /opt/ml."""
    place = values.get(SUBMIT_DIRECTORY, "").strip('"')  # the SDKs write it as JSON
    if not place.startswith("/opt/ml/"):
        return dict(values)
    return {**values, SUBMIT_DIRECTORY: str(base / Path(place).relative_to("/opt/ml"))}


def serving_environment(
    base: Path, request_environment: Mapping[str, str], port: int
) -> dict[str, str]:
    """What `serve` gets; `port` is the one that it must listen on."""
    return {
        # The model directory may be the user's own: no __pycache__ beside its inference.py.
        "PYTHONDONTWRITEBYTECODE": "1",
        "GLIBC_TUNABLES": LARGE_PAGES,
        **base_environment(base, request_environment),
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
