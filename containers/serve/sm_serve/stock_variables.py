"""Variables of the stock containers that change nothing here: each is named, with what does.

An endpoint that moves here from another image brings its environment along. What is not heeded must
not look as if it were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sm_serve.config import Settings
from sm_serve.handlers.scripts import unheeded_folder

OTHER_TOKEN = "set HF_TOKEN to the token that may read the model"  # noqa: S105 (advice)
OWN_BATCHING = "requests are batched anyway: SM_SERVE_BATCH_SIZE and the like bound it"
ADVICE: Mapping[str, str] = {
    "HF_API_TOKEN": OTHER_TOKEN,
    "HF_HUB_TOKEN": OTHER_TOKEN,
    "HF_MODEL_TRUST_REMOTE_CODE": "set SM_SERVE_TRUST_REMOTE_CODE=true if you trust the model",
    "HF_TRUST_REMOTE_CODE": "set SM_SERVE_TRUST_REMOTE_CODE=true if you trust the model",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": "it is minutes in one stock container and seconds in another:"
    " set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    "SAGEMAKER_MODEL_SERVER_VMARGS": "there is no Java here",
    "SAGEMAKER_STARTUP_TIMEOUT": "the platform's ContainerStartupHealthCheckTimeoutInSeconds is"
    " what ends a slow start",
    "SAGEMAKER_TS_BATCH_SIZE": OWN_BATCHING,
    "SAGEMAKER_TS_MAX_BATCH_DELAY": "set SM_SERVE_BATCH_DELAY_MS",
    "SAGEMAKER_TS_RESPONSE_TIMEOUT": "set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    "TS_MAX_REQUEST_SIZE": "set SAGEMAKER_MAX_PAYLOAD_IN_MB",
    "TS_MAX_RESPONSE_SIZE": "answers have no limit of their own",
    "TS_DEFAULT_WORKERS_PER_MODEL": "set SM_SERVE_REPLICAS, or for inference.py"
    " SAGEMAKER_MODEL_SERVER_WORKERS",
    "TS_DEFAULT_RESPONSE_TIMEOUT": "set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    "MMS_MAX_REQUEST_SIZE": "set SAGEMAKER_MAX_PAYLOAD_IN_MB",
    "MMS_DEFAULT_RESPONSE_TIMEOUT": "set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    "SM_NUM_GPUS": "all GPUs are used: set SM_SERVE_REPLICAS or SM_SERVE_DEVICE for fewer",
    "MAX_INPUT_LENGTH": "the model's context is the bound",
    "MAX_INPUT_TOKENS": "the model's context is the bound",
    "MAX_TOTAL_TOKENS": "the model's context is the bound",
    "MAX_CONCURRENT_REQUESTS": "set SM_SERVE_MAX_IN_FLIGHT",
    "HF_MODEL_QUANTIZE": "set SM_SERVE_DTYPE, or save the model quantised",
}
PREFIXES: Mapping[str, str] = {
    "TS_": "it is TorchServe's",
    "MMS_": "it is multi-model-server's",
    "SAGEMAKER_TS_": "it is TorchServe's",
    "OPTION_": "it is DJL Serving's",
    "SERVING_": "it is DJL Serving's",
    "SM_VLLM_": "it is the vLLM container's",
}


def unheeded(environ: Mapping[str, str], settings: Settings) -> Iterator[str]:
    """A line for each variable that is set and changes nothing. Values are not shown."""
    for name in sorted(environ):
        advice = ADVICE.get(name)
        if advice is None:
            prefix = next((p for p in PREFIXES if name.startswith(p)), None)
            advice = None if prefix is None else f"{PREFIXES[prefix]}: see docs/serving.md"
        if advice is not None:
            yield f"{name} changes nothing here: {advice}"
    if environ.get("HF_MODEL_REVISION") and settings.hub is None:
        yield "HF_MODEL_REVISION changes nothing here: it is the revision of HF_MODEL_ID's model"
    if unheeded_folder(environ, settings.code_dir):
        yield (
            "SAGEMAKER_SUBMIT_DIRECTORY changes nothing here, as it is no directory: put the script"
            f" and what it imports into the model's code/ folder ({settings.code_dir})"
        )
