"""Which instance types have local NVMe storage, whose size and encryption SageMaker does not set.

Source: EC2's DescribeInstanceTypes, InstanceStorageInfo.TotalSizeInGB. A test holds the table
against a recorded answer, for every type that SageMaker's service model names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Protocol

_ROWS = """
c5d: large 50 xlarge 100 2xlarge 200 4xlarge 400 9xlarge 900 18xlarge 1800
c6gd m6gd r6gd: large 118 xlarge 237 2xlarge 474 4xlarge 950 8xlarge 1900 12xlarge 2850
c6gd m6gd r6gd: 16xlarge 3800
g4dn: xlarge 125 2xlarge 225 4xlarge 225 8xlarge 900 12xlarge 900 16xlarge 900
g5 g6e: xlarge 250 2xlarge 450 4xlarge 600 8xlarge 900 12xlarge 3800 16xlarge 1900 24xlarge 3800
g5 g6e: 48xlarge 7600
g6: xlarge 250 2xlarge 450 4xlarge 600 8xlarge 900 12xlarge 3760 16xlarge 1880 24xlarge 3760
g6: 48xlarge 7520
g7: 2xlarge 440 4xlarge 875 8xlarge 930 12xlarge 1900 24xlarge 3800 48xlarge 7600
g7e: 2xlarge 1900 4xlarge 1900 8xlarge 1900 12xlarge 3800 24xlarge 7600 48xlarge 15200
m5d: large 75 xlarge 150 2xlarge 300 4xlarge 600 12xlarge 1800 24xlarge 3600
p3dn: 24xlarge 1800
p4d p4de: 24xlarge 8000
p5: 4xlarge 3800 48xlarge 30400
p5e p5en p6-b200 p6-b300: 48xlarge 30400
r5d: large 75 xlarge 150 2xlarge 300 4xlarge 600 8xlarge 1200 12xlarge 1800 16xlarge 2400
r5d: 24xlarge 3600
r7gd: medium 59 large 118 xlarge 237 2xlarge 474 4xlarge 950 8xlarge 1900 12xlarge 2850
r7gd: 16xlarge 3800
trn1: 2xlarge 474 32xlarge 7600
trn1n: 32xlarge 7600
trn2: 48xlarge 7600
"""


@cache
def table() -> Mapping[str, int]:
    """Instance type to the GB of its local storage; the others have none."""
    sizes = {}
    for row in _ROWS.strip().splitlines():
        families, _, pairs = row.partition(": ")
        fields = pairs.split()
        for family in families.split():
            for size, gigabytes in zip(fields[::2], fields[1::2], strict=True):
                sizes[f"ml.{family}.{size}"] = int(gigabytes)
    return sizes


class Disk(Protocol):
    """A section of job.yaml that says how large a volume is."""

    volume_size_gb: int

    @property
    def model_fields_set(self) -> set[str]:
        """Which keys are not defaults."""
        ...


def volume_size(instance_type: str, disk: Disk) -> int:
    """GB as job.yaml says; by default no more than a local storage has, whose size is fixed."""
    if "volume_size_gb" in disk.model_fields_set:
        return disk.volume_size_gb
    return min(disk.volume_size_gb, table().get(instance_type, disk.volume_size_gb))


def notes(
    instance_type: str, kms_key: str | None, disk: Disk | None = None, section: str = ""
) -> list[str]:
    """What job.yaml says of a volume that these instances do not have.

    Args:
        instance_type: which instances.
        kms_key: what was to encrypt it.
        disk: the section that has its size; None where it has none.
        section: its name.
    """
    has = table().get(instance_type)
    if has is None:
        return []
    told = []
    if kms_key:
        told.append(
            f"aws.kms_key encrypts what is written to S3 and not the disk of {instance_type}: its "
            "local NVMe storage is encrypted by its own hardware, with no key of yours"
        )
    if disk is not None and "volume_size_gb" in disk.model_fields_set:
        told.append(
            f"{section}.volume_size_gb: {disk.volume_size_gb} changes nothing, the disk of "
            f"{instance_type} is its local storage of {has} GB"
        )
    return told
