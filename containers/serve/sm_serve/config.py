"""Settings of the server: read once from the environment, checked before anything heavy starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sm_serve import contract
from sm_serve.errors import StartupError

MEBIBYTE = 1024 * 1024
BATCH_ITEMS = 200_000
"""Lines that batch transform may send at once: its payloads are larger, and nobody waits beside."""
HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""As huggingface_hub's validate_repo_id has it, which alone would take a second to import."""
VLLM_PREFIX = "SM_SERVE_VLLM_"
"""Of variables that name vLLM's own engine arguments."""
ENGINES = ("auto", "transformers", "continuous", "vllm")


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the Hugging Face Hub; `commit` is known once it has been asked."""

    repository: str
    revision: str = "main"
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set. Durations are seconds, sizes bytes unless named otherwise."""

    base_dir: Path = Path(contract.DEFAULT_BASE_DIR)
    host: str = "0.0.0.0"
    port: int = contract.DEFAULT_PORT
    program: str = ""
    submit_directory: str = ""
    default_accept: str = "application/json"
    batch_transform: bool = False
    multi_model: bool = False
    max_payload_bytes: int = contract.MAX_PAYLOAD_BYTES
    max_in_flight: int = 256
    max_connections: int = 0
    max_items: int = 10_000
    request_timeout: float = 55.0
    stream_timeout: float = contract.STREAM_SECONDS - 10
    drain_timeout: float = 25.0
    lame_duck: float = 1.0
    stall_timeout: float = 60.0
    user_threads: int = 1
    install_requirements: str = "false"
    network_isolation: bool = False
    hub: HubModel | None = None
    hub_path: str = ""
    task: str | None = None
    engine: str = "auto"
    engine_process: bool = True
    device: str = ""
    replicas: int = 0
    max_lora_rank: int = 0
    vllm: tuple[tuple[str, str], ...] = ()
    dtype: str = "auto"
    batch_size: int = 32
    batch_tokens: int = 8192
    batch_delay: float = 0.0
    max_new_tokens: int = 256
    kv_cache_tokens: int = 0
    reasoning_parser: str = "auto"
    max_models: int = 16
    max_adapters: int = 32
    allow_pickle_weights: bool = False
    trust_remote_code: bool = False
    emf: bool = False
    log_level: str = "INFO"
    served_name: str = "model"

    @property
    def artefact_dir(self) -> Path:
        """Where the platform puts the artefact; several models below it in multi-model mode."""
        return self.base_dir / ("models" if self.multi_model else "model")

    @property
    def model_dir(self) -> Path:
        """The directory that holds the model: the artefact's, or one downloaded from the Hub."""
        return Path(self.hub_path) if self.hub_path else self.artefact_dir

    @property
    def code_dir(self) -> Path:
        """The directory of the user's own inference script."""
        return self.artefact_dir / "code"


class _Reader:
    """Reads typed values and names the variable, the value and the fix when one is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name) or default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        raw = self._environ.get(name)
        if not raw:
            return default
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise StartupError(f"{name}={raw!r}: give a number from {low:g} to {high:g}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if value != int(value):
            raise StartupError(f"{name}={self._environ[name]!r}: give a whole number")
        return int(value)

    def flag(self, name: str, default: str = "") -> bool:
        raw = self.text(name, default).strip().lower()
        if raw in ("", "0", "false", "no", "off"):
            return False
        if raw in ("1", "true", "yes", "on"):
            return True
        raise StartupError(f"{name}={raw!r}: give true or false")

    def prefixed(self, prefix: str) -> tuple[tuple[str, str], ...]:
        """Names behind the prefix, in small letters, with their values."""
        found = [name for name in sorted(self._environ) if name.startswith(prefix)]
        return tuple((name.removeprefix(prefix).lower(), self._environ[name]) for name in found)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise StartupError(f"{name}={value!r}: give one of {', '.join(allowed)}")
        return value


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Builds the settings from environment variables.

    Names beginning with SAGEMAKER_ are the platform's and the inference toolkit's own
    (sagemaker_inference/parameters.py); the rest begin with SM_SERVE_.
    Raises StartupError naming the variable, its value and what to give instead.
    """
    read = _Reader(os.environ if environ is None else environ)
    batch = read.flag("SAGEMAKER_BATCH")
    limit = contract.MAX_BATCH_PAYLOAD_BYTES if batch else contract.MAX_PAYLOAD_BYTES
    items = BATCH_ITEMS if batch else Settings().max_items
    timeout = contract.BATCH_INVOCATION_SECONDS if batch else 55.0
    megabytes = read.number("SAGEMAKER_MAX_PAYLOAD_IN_MB", limit / MEBIBYTE, 0.001, 1024)
    default = Settings()
    return Settings(
        base_dir=Path(read.text("SAGEMAKER_BASE_DIR", contract.DEFAULT_BASE_DIR)),
        host=read.text("SM_SERVE_HOST", default.host),
        port=read.integer("SAGEMAKER_BIND_TO_PORT", contract.DEFAULT_PORT, 1, 65535),
        program=read.text("SAGEMAKER_PROGRAM", default.program),
        submit_directory=read.text("SAGEMAKER_SUBMIT_DIRECTORY", default.submit_directory),
        default_accept=read.text("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", default.default_accept),
        batch_transform=batch,
        multi_model=read.flag("SAGEMAKER_MULTI_MODEL"),
        max_payload_bytes=int(megabytes * MEBIBYTE),
        max_in_flight=read.integer("SM_SERVE_MAX_IN_FLIGHT", default.max_in_flight, 1, 100_000),
        max_connections=read.integer("SM_SERVE_MAX_CONNECTIONS", 0, 0, 1_000_000),
        max_items=read.integer("SM_SERVE_MAX_ITEMS", items, 1, 10_000_000),
        request_timeout=read.integer(
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
            int(timeout),
            1,
            int(contract.BATCH_INVOCATION_SECONDS),
        ),
        stream_timeout=read.number("SM_SERVE_STREAM_TIMEOUT", default.stream_timeout, 0.1, 3600),
        drain_timeout=read.number("SM_SERVE_DRAIN_TIMEOUT", default.drain_timeout, 0, 3600),
        lame_duck=read.number("SM_SERVE_LAME_DUCK", default.lame_duck, 0, 60),
        stall_timeout=read.number("SM_SERVE_STALL_TIMEOUT", default.stall_timeout, 0.1, 3600),
        install_requirements=_read_install(read),
        network_isolation=read.flag("SM_SERVE_NETWORK_ISOLATION"),
        hub=_read_hub(read),
        user_threads=read.integer("SAGEMAKER_MODEL_SERVER_WORKERS", 1, 1, 1024),
        task=read.text("HF_TASK", "") or None,
        engine=read.choice("SM_SERVE_ENGINE", "auto", ENGINES),
        engine_process=read.flag("SM_SERVE_ENGINE_PROCESS", "true"),
        device=read.text("SM_SERVE_DEVICE", ""),
        replicas=read.integer("SM_SERVE_REPLICAS", 0, 0, 64),
        max_lora_rank=read.integer("SM_SERVE_MAX_LORA_RANK", 0, 0, 512),
        vllm=read.prefixed(VLLM_PREFIX),
        dtype=read.choice("SM_SERVE_DTYPE", "auto", ("auto", "float32", "bfloat16", "float16")),
        batch_size=read.integer("SM_SERVE_BATCH_SIZE", default.batch_size, 1, 4096),
        batch_tokens=read.integer("SM_SERVE_BATCH_TOKENS", default.batch_tokens, 1, 1 << 24),
        batch_delay=read.number("SM_SERVE_BATCH_DELAY_MS", default.batch_delay * 1e3, 0, 1e4) / 1e3,
        max_new_tokens=read.integer("SM_SERVE_MAX_NEW_TOKENS", default.max_new_tokens, 1, 1 << 20),
        kv_cache_tokens=read.integer("SM_SERVE_KV_CACHE_TOKENS", 0, 0, 1 << 30),
        reasoning_parser=read.choice(
            "SM_SERVE_REASONING_PARSER", "auto", ("auto", "think", "harmony", "none")
        ),
        max_models=read.integer("SM_SERVE_MAX_MODELS", default.max_models, 1, 10_000),
        max_adapters=read.integer("SM_SERVE_MAX_ADAPTERS", default.max_adapters, 0, 10_000),
        allow_pickle_weights=read.flag("SM_SERVE_ALLOW_PICKLE_WEIGHTS"),
        trust_remote_code=read.flag("SM_SERVE_TRUST_REMOTE_CODE"),
        emf=read.flag("SM_SERVE_EMF"),
        log_level=_log_level(read),
        served_name=read.text("SM_SERVE_MODEL_NAME", default.served_name),
    )


def _read_install(read: _Reader) -> str:
    """Whether a script's requirements.txt is installed at start: false, true, or with hashes."""
    name = "SM_SERVE_INSTALL_REQUIREMENTS"
    value = read.choice(name, "false", ("false", "true", "hashes"))
    if value != "false" and read.flag("SM_SERVE_NETWORK_ISOLATION"):
        raise StartupError(
            f"{name}={value!r}: in network isolation nothing can be installed: put the packages"
            " into the image, and unset it"
        )
    return value


def _read_hub(read: _Reader) -> HubModel | None:
    """The model to download at start; a path, as other containers take it, is the artefact's."""
    identity, revision = read.text("HF_MODEL_ID", ""), read.text("HF_MODEL_REVISION", "main")
    base = read.text("SAGEMAKER_BASE_DIR", contract.DEFAULT_BASE_DIR)
    if not identity or identity.rstrip("/") == f"{base}/model":
        return None
    if not HUB_ID.fullmatch(identity) or ".." in identity or "--" in identity:
        raise StartupError(
            f"HF_MODEL_ID={identity!r} is no model of the Hub: give OWNER/NAME, with a revision in"
            " HF_MODEL_REVISION; a model of another place comes by ModelDataUrl or ModelDataSource"
        )
    return HubModel(identity, revision)


def _log_level(read: _Reader) -> str:
    """The toolkit takes a number (20) here, people write a name (INFO): both are accepted."""
    levels = {"10": "DEBUG", "20": "INFO", "30": "WARNING", "40": "ERROR", "50": "CRITICAL"}
    raw = read.text("SAGEMAKER_CONTAINER_LOG_LEVEL", "INFO").upper()
    level = levels.get(raw, raw)
    if level not in levels.values():
        raise StartupError(
            f"SAGEMAKER_CONTAINER_LOG_LEVEL={raw!r}: give one of {', '.join(levels.values())}"
        )
    return level
