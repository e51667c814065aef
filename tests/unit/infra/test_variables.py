"""Every environment variable that we set for another program is one that this program reads.

A misspelt one has no effect and nobody notices: the name is looked for in the program itself.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sm_launch.sessions.docker.sdk import ISOLATED
from sm_launch.sessions.process import environment
from sm_launch.sessions.process.environment import OFFLINE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"[A-Za-z][A-Z0-9a-z]*(_[A-Z0-9a-z]+)+|TMPDIR|PATH")

# Variable to the module or the shared library in whose files its name stands.
READERS = {
    "AWS_EC2_METADATA_DISABLED": "botocore",
    "AWS_PROFILE": "botocore",
    "CUDA_HOME": "torch",
    "CUDA_VISIBLE_DEVICES": "torch",
    "CURL_CA_BUNDLE": "requests",
    "FI_EFA_USE_DEVICE_RDMA": "sagemaker_training",
    "FI_PROVIDER": "sagemaker_training",
    "GLOO_SOCKET_IFNAME": "torch",
    "GOMP_SPINCOUNT": "torch/lib/libgomp.so.1",
    "HF_DATASETS_CACHE": "datasets",
    "HF_DATASETS_OFFLINE": "datasets",
    "HF_ENDPOINT": "huggingface_hub",
    "HF_HOME": "huggingface_hub",
    "HF_HUB_CACHE": "huggingface_hub",
    "HF_HUB_DISABLE_TELEMETRY": "huggingface_hub",
    "HF_HUB_OFFLINE": "huggingface_hub",
    "LLM_COMPRESSOR_LOG_LEVEL": "llmcompressor",
    "MKL_NUM_THREADS": "torch",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "mlflow",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "mlflow",
    "MLFLOW_MAX_LOG_PARAMS": "transformers",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "mlflow",
    "NCCL_SOCKET_IFNAME": "torch/lib/libtorch_cpu.so",
    "OMP_NUM_THREADS": "torch",
    "REQUESTS_CA_BUNDLE": "requests",
    "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": "sagemaker.core",
    "SAGEMAKER_BASE_DIR": "sagemaker_training",
    "SAGEMAKER_BIND_TO_PORT": "sagemaker_inference",
    "SAGEMAKER_TRAINING_MODULE": "sagemaker_training",
    "SAGEMAKER_USER_CONFIG_OVERRIDE": "sagemaker.core",
    "SM_STUDIO_LOCAL_MODE": "sagemaker_training",
    "TENSORBOARD_LOGGING_DIR": "transformers",
    "TORCH_HOME": "torch",
    "TRAINING_JOB_ARN": "transformers",
    "TRAINING_JOB_NAME": "sagemaker_training",
    "UV_DEFAULT_INDEX": "uv",
    "UV_HTTP_TIMEOUT": "uv",
    "UV_LINK_MODE": "uv",
    "UV_PYTHON": "uv",
    "XDG_CACHE_HOME": "huggingface_hub",
}
# Read by what is not installed with us, with the page that names it; or by Python and libc.
ELSEWHERE = {
    "DOCKER_BUILDKIT": "docker's CLI reference, Environment variables",
    "DOCKER_CERT_PATH": "docker's CLI reference, Environment variables",
    "DOCKER_CONFIG": "docker's CLI reference, Environment variables",
    "DOCKER_CONTEXT": "docker's CLI reference, Environment variables",
    "DOCKER_HOST": "docker's CLI reference, Environment variables",
    "DOCKER_TLS_VERIFY": "docker's CLI reference, Environment variables",
    "FLASH_ATTENTION_FORCE_BUILD": "flash-attn's setup.py",
    "NVCC_THREADS": "flash-attn's setup.py",
    "NVIDIA_DRIVER_CAPABILITIES": "NVIDIA Container Toolkit, Specialized Configurations",
    "NVIDIA_VISIBLE_DEVICES": "NVIDIA Container Toolkit, Specialized Configurations",
    "SAGEMAKER_BATCH": "our serving image, as AWS sets it: Batch Transform's developer guide",
    "SYFT_CHECK_FOR_APP_UPDATE": "syft's wiki, Configuration: check-for-app-update",
    "VLLM_WORKER_MULTIPROC_METHOD": "vllm/envs.py; test_vllm.py of the engines has a stand-in",
}
OF_PYTHON = {
    "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PATH", "LD_LIBRARY_PATH",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH", "GLIBC_TUNABLES",
}  # fmt: skip
# In these modules every dict of such names is an environment.
ENVIRONMENTS = ("sm_launch/sessions", "sm_launch/images/engine.py",
                "containers/train/sm_train/launch.py")  # fmt: skip
# Capital names in dicts that are something else: records of our own, requests' values.
NO_VARIABLES = {"SM_LAUNCH_HOME", "ml_p4d"}


def set_in_python(path: Path, *, dicts: bool) -> Iterator[str]:
    """Names that a module puts into an environment."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "setdefault" and node.args:
                yield from constants([node.args[0]])
        elif isinstance(node, ast.Assign):
            subscripts = [t for t in node.targets if isinstance(t, ast.Subscript)]
            yield from constants([t.slice for t in subscripts if "environ" in ast.unparse(t)])
        elif isinstance(node, ast.Dict) and dicts:
            yield from constants([key for key in node.keys if key is not None])


def constants(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and NAME.fullmatch(value) and value.isupper():
            yield value


def set_in_dockerfile(path: Path) -> Iterator[str]:
    """Names of ENV lines, and of assignments before a command."""
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("ENV "):
            yield from re.findall(r"(?:^ENV|\s)\s*([A-Za-z_]+)=", line)
        elif line.startswith("RUN "):
            yield from re.findall(r"\b((?:UV|SYFT|HF|PIP|SSL)_[A-Z_]+)=", line)


def all_set() -> set[str]:
    names = set(environment._KEPT)
    for package in ("sm_launch", "containers/train/sm_train", "containers/serve/sm_serve"):
        for path in sorted((ROOT / package).rglob("*.py")):
            shown = path.relative_to(ROOT).as_posix()
            names |= set(set_in_python(path, dicts=shown.startswith(ENVIRONMENTS)))
    for path in (ROOT / "containers").glob("*/Dockerfile"):
        names |= set(set_in_dockerfile(path))
    return names - NO_VARIABLES


def test_every_variable_that_we_set_has_a_program_that_reads_it() -> None:
    names = all_set()
    assert {"HF_HUB_OFFLINE", "GOMP_SPINCOUNT", "UV_LINK_MODE", "NCCL_SOCKET_IFNAME"} <= names
    assert len(names) > 40
    for_pip = {name for name in names if name.startswith("PIP_")}
    assert names - OF_PYTHON - set(ELSEWHERE) - for_pip == set(READERS)
    for name in for_pip:
        assert f"--{name.removeprefix('PIP_').lower().replace('_', '-')}" in pip_options()


@pytest.mark.parametrize("name", sorted(READERS))
def test_the_program_reads_it(name: str) -> None:
    assert any(re.search(rb"(?<![A-Z0-9_])" + name.encode(), text) for text in files(READERS[name]))


def pip_options() -> str:
    from pip._internal.cli import cmdoptions
    from pip._internal.commands import install

    return "".join(Path(str(module.__file__)).read_text() for module in (cmdoptions, install))


def files(reader: str) -> Iterator[bytes]:
    """The contents of a module's files, or of one shared library."""
    package, _, inside = reader.partition("/")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    root = Path(next(iter(spec.submodule_search_locations)))
    if package == "uv":
        from uv import find_uv_bin

        yield Path(find_uv_bin()).read_bytes()
    elif inside:
        yield (root / inside).read_bytes()
    else:
        for path in root.rglob("*.py"):
            yield path.read_bytes()


@pytest.mark.parametrize("variables", [OFFLINE, ISOLATED], ids=["process", "docker"])
def test_isolation_takes_the_libraries_offline(variables: dict[str, str]) -> None:
    """By the libraries' own switches, and by what they do when asked for a model."""
    code = """
import json, huggingface_hub as hub, huggingface_hub.constants as c, datasets.config as d
try:
    hub.model_info("org/model")
    error = ""
except Exception as caught:
    error = type(caught).__name__
print(json.dumps([c.HF_HUB_OFFLINE, d.HF_HUB_OFFLINE, error]))
"""
    clean = {key: value for key, value in os.environ.items() if "OFFLINE" not in key}
    told = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **variables}, capture_output=True, check=True
    )
    assert json.loads(told.stdout) == [True, True, "OfflineModeIsEnabled"]
