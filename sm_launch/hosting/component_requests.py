"""Inference components: a model on an endpoint's instances, adapters on it, copies down to zero.

The endpoint's variant then has instances but no model of its own. An adapter is a component too;
SageMaker loads it into the base component's containers over their /adapters route.
"""

from __future__ import annotations

from typing import Any

from sm_launch.hosting.variants import MAIN_VARIANT, deployment, startup_timeout
from sm_launch.job.config import Endpoint, JobConfig
from sm_launch.job.hosting import Components
from sm_launch.job.instances import has_gpu
from sm_launch.job.naming import tags
from sm_launch.job.passthrough import members, merged

Request = dict[str, Any]


def adapter_component(endpoint: str, adapter: str) -> str:
    """Name of the component of an adapter; the base component has the endpoint's own name."""
    return f"{endpoint}-{adapter}"


def create_base(config: JobConfig, endpoint: str, model: str, model_bytes: int | None) -> Request:
    """CreateInferenceComponent of the model itself."""
    settings = _settings(config)
    request: Request = {
        "InferenceComponentName": endpoint,
        "EndpointName": endpoint,
        "VariantName": MAIN_VARIANT,
        "Specification": _specification(config.endpoint, settings, model, model_bytes),
        "RuntimeConfig": {"CopyCount": settings.copies},
        "Tags": tags(config),
    }
    return merged(request, config.sagemaker.component)


def update_base(config: JobConfig, endpoint: str, model: str, model_bytes: int | None) -> Request:
    """UpdateInferenceComponent: the new model takes over, copy by copy."""
    settings = _settings(config)
    request: Request = {
        "InferenceComponentName": endpoint,
        "Specification": _specification(config.endpoint, settings, model, model_bytes),
    }
    if config.endpoint.update:
        request["DeploymentConfig"] = deployment(config.endpoint.update)
    given = config.sagemaker.component
    known = members("UpdateInferenceComponentInput") if given else frozenset()
    return merged(request, {name: value for name, value in given.items() if name in known})


def adapters(config: JobConfig, endpoint: str) -> list[Request]:
    """CreateInferenceComponent of every adapter."""
    return [
        {
            "InferenceComponentName": adapter_component(endpoint, name),
            "EndpointName": endpoint,
            "Specification": {
                "BaseInferenceComponentName": endpoint,
                "Container": {"ArtifactUrl": location},
            },
            "Tags": tags(config),
        }
        for name, location in _settings(config).adapters.items()
    ]


def _settings(config: JobConfig) -> Components:
    settings = config.endpoint.components
    assert settings is not None, "the caller looks"
    return settings


def _specification(
    endpoint: Endpoint, settings: Components, model: str, model_bytes: int | None
) -> Request:
    needs: Request = {"MinMemoryRequiredInMb": settings.memory_mb}
    accelerators = settings.accelerators or (1 if has_gpu(endpoint.instances.type) else None)
    if accelerators:
        needs["NumberOfAcceleratorDevicesRequired"] = accelerators
    if settings.cpu_cores:
        needs["NumberOfCpuCoresRequired"] = settings.cpu_cores
    timeout = endpoint.startup_timeout_seconds or startup_timeout(model_bytes)
    return {
        "ModelName": model,
        "ComputeResourceRequirements": needs,
        "StartupParameters": {
            "ContainerStartupHealthCheckTimeoutInSeconds": timeout,
            "ModelDataDownloadTimeoutInSeconds": timeout,
        },
    }
