"""From what a failed job said to its likely cause and the next step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LAST_LOG_LINES = 20
_MEND = "mend the cause"


@dataclass(frozen=True)
class Cause:
    """Why something probably failed, and what to do next."""

    cause: str
    step: str


# Pattern (searched without regard to case), cause, next step. The first that matches wins, so
# what is more telling stands first.
_KNOWN = (
    (
        r"cuda out of memory|outofmemoryerror|cublas_status_alloc_failed",
        "the GPU's memory is too small for model, batch and sequence length",
        "halve per_device_train_batch_size and double gradient_accumulation_steps, use_peft: true, "
        "or take a larger GPU: `sm-launch estimate` shows the arithmetic",
    ),
    (
        r"\boom[- ]?kill|exit code:? ?(137|-9)\b|cannot allocate memory|signal 9\b",
        "the instance's main memory ran out",
        "take an instance with more memory, or fewer dataloader workers",
    ),
    (
        r"no space left on device|disk quota exceeded",
        "the disk is full: checkpoints, data and model share the training volume",
        "raise training.instances.volume_size_gb, or set save_total_limit",
    ),
    (
        r"capacityerror|insufficient ?(instance)?capacity|unable to provision requested ml compute",
        "AWS has no such instance free just now",
        "try again later, or name other instance types (training.fallback and endpoint.fallback: "
        "they are then tried by themselves; a spot training finds more with training.spot: false)",
    ),
    (
        r"resourcelimitexceeded|service limit|account-level service limit",
        "the account's quota for this instance type is used up",
        "raise it in Service Quotas (`sm-launch doctor` shows it), or name another type",
    ),
    (
        r"maxruntimeexceeded|maximum ?runtime",
        "the job reached training.max_runtime_seconds",
        "raise it; with checkpoints or spot the next run resumes",
    ),
    (
        r"driver (version )?is (insufficient|too old)|unsupported ptx|requires a driver newer|"
        r"cuda driver version is insufficient",
        "the host's NVIDIA driver is older than the image's CUDA needs",
        "endpoint.inference_ami_version: al2023-ami-sagemaker-inference-gpu-4-1 (driver 580)",
    ),
    (
        r"exec format error",
        "the image was built for another processor architecture",
        "build it with --platform linux/amd64",
    ),
    (
        r"gatedrepoerror|401 client error.*huggingface|403 client error.*huggingface|"
        r"access to model .* is restricted",
        "the model is gated: the Hub wants a token",
        "accept its licence on the Hub and give a token: "
        "training.environment: {HF_TOKEN: env:HF_TOKEN}",
    ),
    (
        r"repositorynotfounderror|is not a local folder and is not a valid model identifier",
        "there is no model of that name on the Hub, or the token may not see it",
        "check training.model",
    ),
    (
        r"localentrynotfounderror|offline mode is enabled|couldn't connect to .*huggingface|"
        r"name or service not known|temporary failure in name resolution",
        "the container cannot reach the Hub: network isolation or a VPC without a way out",
        "give the base model as a directory or an s3:// URI (training.model), or open a route",
    ),
    (
        r"cannotstartcontainererror|executable file not found",
        "the image has no `train` or `serve` program",
        "check the image's URI; `sm-launch images list` shows ours",
    ),
    (
        r"could not find model data|no s3 objects found|nosuchkey",
        "SageMaker found nothing at an S3 URI of the request",
        "check the URI (`aws s3 ls`), and that the role may read it",
    ),
    (
        r"is not authorized to perform|access ?denied|could not assume role",
        "the role lacks a permission",
        "run `sm-launch setup`, or add what the message names to the execution role",
    ),
    (
        r"nccl (error|timeout)|watchdog caught collective|socket timeout.*store",
        "the instances lost touch with each other; mostly one of them failed first",
        "read the log of every host; look for the earliest error",
    ),
    (
        r"loss.*\bnan\b|non-finite|found inf",
        "the training diverged",
        "a smaller learning_rate, dtype: bfloat16 in place of float16, or max_grad_norm: 1",
    ),
    (
        r"internalservererror|internal error",
        "an error inside SageMaker",
        "run it again; training.retries lets SageMaker do that",
    ),
    (
        r"modulenotfounderror|no module named",
        "a Python package is missing in the image",
        "add it to the image's requirements and build it again",
    ),
    # The status of every endpoint that failed to start: whatever the log says tells more.
    (
        r"did not pass the ping health check|failed to pass.*health check",
        "the server did not answer /ping in time: the model failed to load, or loads too slowly",
        "read `sm-launch logs NAME`; a large model needs endpoint.startup_timeout_seconds",
    ),
)


def likely_cause(reason: str, log: Iterable[str] = ()) -> Cause | None:
    """What a failure most probably means.

    Args:
        reason: SageMaker's FailureReason.
        log: the last log lines.
    """
    text = "\n".join([reason, *log])
    for pattern, cause, step in _KNOWN:
        if re.search(pattern, text, re.IGNORECASE):
            return Cause(cause, step)
    return None


def explain_failure(
    what: str, reason: str | None, read_log: Callable[[], list[str]]
) -> tuple[str, str]:
    """The words for something that failed, and the step that mends its cause.

    Args:
        what: what happened to what, such as `endpoint mine failed`.
        reason: the platform's own reason.
        read_log: reads the whole log; it may fail, for the reason must be told in any case.
    """
    reason = reason or "no reason given"
    try:
        tail = read_log()[-LAST_LOG_LINES:]
    except Exception as error:
        tail = [f"(the log cannot be read: {error})"]
    log = "".join(f"\n    {line}" for line in tail)
    known_cause = likely_cause(reason, tail)
    cause = f"\n  likely cause: {known_cause.cause}" if known_cause else ""
    return (
        f"{what}: {reason}\n  last log lines:{log}{cause}",
        known_cause.step if known_cause else _MEND,
    )
