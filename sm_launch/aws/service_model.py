"""The service models of the installed botocore: files, read once a process."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.model import ServiceModel


@cache
def service_model(service: str) -> ServiceModel:
    """What botocore knows of a service, such as "sagemaker"."""
    from botocore.model import ServiceModel

    return ServiceModel(_loader().load_service_model(service, "service-2"), service)


@cache
def partition_of(region: str) -> str | None:
    """The partition that a region is in, such as "aws-cn"; None where botocore knows it not."""
    for partition in _loader().load_data("partitions")["partitions"]:
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return str(partition["id"])
    return None


def _loader() -> Any:
    """Where boto3's clients find theirs: AWS_DATA_PATH and ~/.aws/models go before botocore's."""
    from botocore.loaders import create_loader

    return create_loader(os.environ.get("AWS_DATA_PATH"))
