"""What both programs that call SageMaker's SDK set before they import it."""

from __future__ import annotations

import os
from pathlib import Path

import yaml


def quiet_sdk(root: Path) -> None:
    """No telemetry, no instance metadata, no settings of this machine's user."""
    quiet = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    (root / "sagemaker.yaml").write_text(yaml.safe_dump({"SchemaVersion": "1.0", **quiet}))
    for name in ("USER", "ADMIN"):
        os.environ[f"SAGEMAKER_{name}_CONFIG_OVERRIDE"] = str(root / "sagemaker.yaml")
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
