"""Settings of the server: read once from the environment, checked before anything heavy starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sm_serve import contract
from sm_serve.errors import StartupError

MEBIBYTE = 1024 * 1024
BASE = Path(contract.DEFAULT_BASE_DIR)
BATCH_ITEMS = 200_000
"""Lines that batch transform may send at once: its payloads are larger, and nobody waits beside."""
HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""As huggingface_hub's validate_repo_id has it, which alone would take a second to import."""
VLLM_PREFIX = "SM_SERVE_VLLM_"
"""Of variables that name vLLM's own engine arguments."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the Hugging Face Hub; `commit` is known once it has been asked."""

    repository: str
    revision: str = "main"
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """The environment variable of a setting: what it means and what it may be.

    Attributes:
        name: of the variable.
        help: one line of docs/environment.md.
        low, high: bounds of a number, in the variable's own unit.
        choices: the texts that are allowed; empty for any.
        scale: what the variable's number is multiplied with.
        shown: the default as people read it; empty for the field's own.
        batch: the default under SAGEMAKER_BATCH, in the setting's unit.
    """

    name: str
    help: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    scale: float = 1
    shown: str = ""
    batch: float | None = None


def _set_by(name: str, default: Any, meaning: str, **more: Any) -> Any:
    return field(default=default, metadata={"variable": Variable(name, meaning, **more)})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set. Durations are seconds, sizes bytes unless named otherwise.

    Names beginning with SAGEMAKER_ are the platform's and the inference toolkit's own
    (sagemaker_inference/parameters.py), HF_ the stock containers'; the rest begin with SM_SERVE_.
    """

    base_dir: Path = _set_by(  # noqa: RUF009  (it makes a field)
        "SAGEMAKER_BASE_DIR",
        BASE,
        "the model lies in `model` below it, several in `models`",
    )
    host: str = _set_by("SM_SERVE_HOST", "0.0.0.0", "address to listen at")
    port: int = _set_by(
        "SAGEMAKER_BIND_TO_PORT", contract.DEFAULT_PORT, "port to listen at", low=1, high=65535
    )
    program: str = _set_by(
        "SAGEMAKER_PROGRAM", "", "file or module of the user's script", shown="code/inference.py"
    )
    submit_directory: str = _set_by(
        "SAGEMAKER_SUBMIT_DIRECTORY", "", "where that script lies", shown="the model's code/"
    )
    default_accept: str = _set_by(
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        "application/json",
        "type of an answer where the request names none",
    )
    batch_transform: bool = _set_by(
        "SAGEMAKER_BATCH", False, "batch transform: larger payloads, longer requests"
    )
    multi_model: bool = _set_by("SAGEMAKER_MULTI_MODEL", False, "several models, loaded by request")
    max_payload_bytes: int = _set_by(
        "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        contract.MAX_PAYLOAD_BYTES,
        "size of a request's body, in MiB",
        low=0.001,
        high=1024,
        scale=MEBIBYTE,
        shown="6; 100 with `SAGEMAKER_BATCH`",
        batch=contract.MAX_BATCH_PAYLOAD_BYTES,
    )
    max_in_flight: int = _set_by(
        "SM_SERVE_MAX_IN_FLIGHT", 256, "requests at a time; beyond it 429", low=1, high=100_000
    )
    max_connections: int = _set_by(
        "SM_SERVE_MAX_CONNECTIONS",
        0,
        "connections that ask for nothing, see Connections in serving.md",
        high=1_000_000,
        shown="4096, or half of what the limit of open files leaves",
    )
    max_items: int = _set_by(
        "SM_SERVE_MAX_ITEMS",
        10_000,
        "items of a request, see Bounds in serving.md",
        low=1,
        high=10_000_000,
        shown="10,000; 200,000 with `SAGEMAKER_BATCH`",
        batch=BATCH_ITEMS,
    )
    request_timeout: int = _set_by(
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        55,
        "seconds for an answer, less than the platform's 60",
        low=1,
        high=contract.BATCH_INVOCATION_SECONDS,
        shown="55; 3600 with `SAGEMAKER_BATCH`",
        batch=contract.BATCH_INVOCATION_SECONDS,
    )
    stream_timeout: float = _set_by(
        "SM_SERVE_STREAM_TIMEOUT",
        contract.STREAM_SECONDS - 10,
        "seconds for a streamed answer, less than the platform's 480",
        low=0.1,
        high=3600,
    )
    drain_timeout: float = _set_by(
        "SM_SERVE_DRAIN_TIMEOUT",
        25.0,
        "seconds after SIGTERM for what is in flight",
        high=3600,
    )
    lame_duck: float = _set_by(
        "SM_SERVE_LAME_DUCK", 1.0, "seconds after SIGTERM that it is still reachable", high=60
    )
    stall_timeout: float = _set_by(
        "SM_SERVE_STALL_TIMEOUT",
        60.0,
        "seconds without progress until `/ping` fails",
        low=0.1,
        high=3600,
    )
    workers: int = _set_by(
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        0,
        "threads of the user's script; without one, for an encoder on CPU, as SM_SERVE_REPLICAS",
        low=1,
        high=1024,
        shown="1 for a script",
    )
    install_requirements: str = _set_by(
        "SM_SERVE_INSTALL_REQUIREMENTS",
        "false",
        "`true` or `hashes`: install a script's requirements.txt at start",
        choices=("false", "true", "hashes"),
    )
    network_isolation: bool = _set_by(
        "SM_SERVE_NETWORK_ISOLATION",
        False,
        "set by `sm-launch deploy` where the endpoint has no network",
    )
    hub: HubModel | None = None
    hub_path: str = ""
    task: str | None = _set_by(
        "HF_TASK", None, "task of the model, by the pipelines' names", shown="by its architecture"
    )
    engine: str = _set_by(
        "SM_SERVE_ENGINE",
        "auto",
        "`vllm`, `continuous` or `transformers` for generation",
        choices=("auto", "transformers", "continuous", "vllm"),
    )
    engine_process: bool = _set_by(
        "SM_SERVE_ENGINE_PROCESS",
        True,
        "an encoder's engine in a process of its own (never with multi-model)",
    )
    device: str = _set_by(
        "SM_SERVE_DEVICE", "", "one device for the model, such as `cuda:1`", shown="all"
    )
    replicas: int = _set_by(
        "SM_SERVE_REPLICAS",
        0,
        "copies of the model (not with vLLM); of an encoder on CPU, batches at a time, over one"
        " copy of the weights",
        high=64,
        shown="one a GPU; an encoder on CPU: one a CPU, 4 at most, for a small model 1",
    )
    max_lora_rank: int = _set_by(
        "SM_SERVE_MAX_LORA_RANK",
        0,
        "vLLM alone: largest rank that may be loaded later",
        high=512,
        shown="of the artefact's adapters",
    )
    vllm: tuple[tuple[str, str], ...] = ()
    dtype: str = _set_by(
        "SM_SERVE_DTYPE",
        "auto",
        "float32 on CPU; on a GPU as saved, but float16 for bfloat16 where the GPU only emulates"
        " it, and half precision for a language model saved in float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    batch_size: int = _set_by(
        "SM_SERVE_BATCH_SIZE",
        32,
        "rows of an encoder's batch, of all together that run at a time",
        low=1,
        high=4096,
    )
    batch_tokens: int = _set_by(
        "SM_SERVE_BATCH_TOKENS", 8192, "tokens of an encoder's batch, likewise", low=1, high=1 << 24
    )
    batch_delay: float = _set_by(
        "SM_SERVE_BATCH_DELAY_MS",
        0.0,
        "milliseconds that a batch waits to become full",
        high=1e4,
        scale=1e-3,
    )
    max_new_tokens: int = _set_by(
        "SM_SERVE_MAX_NEW_TOKENS",
        256,
        "tokens of an answer, when neither a request nor an encoder-decoder's checkpoint says it",
        low=1,
        high=1 << 20,
    )
    kv_cache_tokens: int = _set_by(
        "SM_SERVE_KV_CACHE_TOKENS",
        0,
        "size of the paged cache",
        high=1 << 30,
        shown="the context, but 8192 to 16384, on CPU; by free memory on GPU",
    )
    reasoning_parser: str = _set_by(
        "SM_SERVE_REASONING_PARSER",
        "auto",
        "`think`, `harmony` or `none`: which thoughts are told apart from answers",
        choices=("auto", "think", "harmony", "none"),
    )
    max_models: int = _set_by(
        "SM_SERVE_MAX_MODELS", 16, "models in memory (multi-model)", low=1, high=10_000
    )
    max_adapters: int = _set_by(
        "SM_SERVE_MAX_ADAPTERS", 32, "adapters in memory", low=0, high=10_000
    )
    allow_pickle_weights: bool = _set_by(
        "SM_SERVE_ALLOW_PICKLE_WEIGHTS", False, "lifts a safety rule: pickles run code"
    )
    trust_remote_code: bool = _set_by(
        "SM_SERVE_TRUST_REMOTE_CODE", False, "lifts a safety rule: the model's own code runs"
    )
    emf: bool = _set_by("SM_SERVE_EMF", False, "metrics for CloudWatch in the log, every 10 s")
    log_level: str = _set_by(
        "SAGEMAKER_CONTAINER_LOG_LEVEL", "INFO", "a name, or the toolkit's number (20)"
    )
    served_name: str = _set_by(
        "SM_SERVE_MODEL_NAME",
        "model",
        "name in OpenAI's routes; `sm-launch deploy` sets it to the endpoint's",
    )

    @property
    def user_threads(self) -> int:
        """Threads of the user's script."""
        return self.workers or 1

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


def variables() -> dict[str, tuple[Variable, Any]]:
    """The variable of each setting that has one, with the setting's default; by setting."""
    return {
        each.name: (each.metadata["variable"], each.default)
        for each in fields(Settings)
        if "variable" in each.metadata
    }


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Builds the settings from environment variables.

    Raises StartupError naming the variable, its value and what to give instead.
    """
    given = os.environ if environ is None else environ
    table = variables()
    if _read(given, *table["batch_transform"]):
        table |= {
            name: (variable, type(default)(variable.batch))
            for name, (variable, default) in table.items()
            if variable.batch is not None
        }
    values = {name: _read(given, *variable) for name, variable in table.items()}
    hub = _read_hub(given, values["base_dir"])
    settings = Settings(**values, hub=hub, vllm=_prefixed(given, VLLM_PREFIX))
    _check_install(settings)
    return replace(settings, log_level=_log_level(settings.log_level))


def _read(environ: Mapping[str, str], variable: Variable, default: Any) -> Any:
    """A typed value: the default's own type says which."""
    raw = environ.get(variable.name)
    if not raw:
        return default
    if isinstance(default, bool):
        return _flag(variable.name, raw)
    if isinstance(default, int | float):
        return _number(variable, raw, whole=isinstance(default, int))
    if variable.choices and raw not in variable.choices:
        raise StartupError(f"{variable.name}={raw!r}: give one of {', '.join(variable.choices)}")
    return Path(raw) if isinstance(default, Path) else raw


def _number(variable: Variable, raw: str, *, whole: bool) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = float("nan")
    if not variable.low <= value <= variable.high:
        bounds = f"{variable.low:g} to {variable.high:g}"
        raise StartupError(f"{variable.name}={raw!r}: give a number from {bounds}")
    if whole and variable.scale == 1 and value != int(value):
        raise StartupError(f"{variable.name}={raw!r}: give a whole number")
    scaled = value * variable.scale
    return int(scaled) if whole else scaled


def _flag(name: str, raw: str) -> bool:
    said = raw.strip().lower()
    if said in ("", "0", "false", "no", "off"):
        return False
    if said in ("1", "true", "yes", "on"):
        return True
    raise StartupError(f"{name}={raw!r}: give true or false")


def _prefixed(environ: Mapping[str, str], prefix: str) -> tuple[tuple[str, str], ...]:
    """Names behind the prefix, in small letters, with their values."""
    names = [name for name in sorted(environ) if name.startswith(prefix)]
    return tuple((name.removeprefix(prefix).lower(), environ[name]) for name in names)


def _check_install(settings: Settings) -> None:
    """In network isolation nothing can be installed."""
    if settings.network_isolation and settings.install_requirements != "false":
        raise StartupError(
            f"SM_SERVE_INSTALL_REQUIREMENTS={settings.install_requirements!r}: in network"
            " isolation nothing can be installed: put the packages into the image, and unset it"
        )


def _read_hub(environ: Mapping[str, str], base: Path) -> HubModel | None:
    """The model to download at start; a path, as other containers take it, is the artefact's."""
    identity = environ.get("HF_MODEL_ID") or ""
    revision = environ.get("HF_MODEL_REVISION") or "main"
    if not identity or Path(identity) == base / "model":
        return None
    if not HUB_ID.fullmatch(identity) or ".." in identity or "--" in identity:
        raise StartupError(
            f"HF_MODEL_ID={identity!r} is no model of the Hub: give OWNER/NAME, with a revision in"
            " HF_MODEL_REVISION; a model of another place comes by ModelDataUrl or ModelDataSource"
        )
    return HubModel(identity, revision)


def _log_level(given: str) -> str:
    """The toolkit takes a number (20) here, people write a name (INFO): both are accepted."""
    levels = {"10": "DEBUG", "20": "INFO", "30": "WARNING", "40": "ERROR", "50": "CRITICAL"}
    raw = given.upper()
    level = levels.get(raw, raw)
    if level not in levels.values():
        raise StartupError(
            f"SAGEMAKER_CONTAINER_LOG_LEVEL={raw!r}: give one of {', '.join(levels.values())}"
        )
    return level
