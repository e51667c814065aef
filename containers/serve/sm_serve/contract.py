"""Facts of SageMaker's hosting contract, each once, with where AWS states it."""

from __future__ import annotations

DEFAULT_BASE_DIR = "/opt/ml"
"""Where the platform mounts the model (hosting guide, "How SageMaker loads your model")."""

DEFAULT_PORT = 8080
"""Port of /ping and /invocations unless SAGEMAKER_BIND_TO_PORT says otherwise (hosting guide)."""

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Largest body of a real-time InvokeEndpoint call: 6,291,456 bytes (API reference)."""

MAX_BATCH_PAYLOAD_BYTES = 100 * 1024 * 1024
"""Largest MaxPayloadInMB of a batch transform job: 100 MB (CreateTransformJob)."""

INVOCATION_SECONDS = 60.0
"""A container must answer a real-time invocation within this (hosting guide)."""

STREAM_SECONDS = 8 * 60.0
"""A streamed answer may last this long (InvokeEndpointWithResponseStream)."""

BATCH_INVOCATION_SECONDS = 3600.0
"""Largest InvocationsTimeoutInSeconds of a batch transform job (ModelClientConfig)."""

STOP_SECONDS = 30.0
"""SIGKILL follows SIGTERM after this many seconds (hosting guide)."""

PING_SECONDS = 2.0
"""A health check must be answered within this many seconds (hosting guide)."""

HEADER_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
HEADER_TARGET_MODEL = "x-amzn-sagemaker-target-model"
HEADER_INFERENCE_ID = "x-amzn-sagemaker-inference-id"
HEADER_SESSION = "x-amzn-sagemaker-session-id"
HEADER_ADAPTER = "x-amzn-sagemaker-adapter-identifier"
"""Client headers that the runtime forwards (InvokeEndpoint, model-hosting-container-standards)."""

MAX_CUSTOM_ATTRIBUTES = 1024
"""Longest custom-attributes header, in characters (InvokeEndpoint)."""
