"""SageMaker's instance types: what is in them, and what an hour costs.

The prices of this table are of us-east-1 in US dollars, on demand, for training; hosting costs the
same or a few per cent more. They are approximate and stand in where AWS's own list cannot be read
(`sm_launch.target.prices`): a guard against accidents, not a quote. Other regions are up to a third
dearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

PRICES_AS_OF = "2025-06"
PRICES_REGION = "us-east-1"
# CloudWatch, a month: a metric alarm of standard resolution, and a dashboard beyond the free ones.
# The ten alarms that an account has free are not deducted.
ALARM_DOLLARS, DASHBOARD_DOLLARS, FREE_DASHBOARDS = 0.10, 3.00, 3
HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Instance:
    """An instance type.

    Attributes:
        type: its name.
        gpus: number of GPUs.
        gpu: name of the GPU; empty for CPU instances.
        gpu_memory_gib: memory of one GPU, in GiB.
        memory_gib: main memory, in GiB.
        price: US dollars an hour of training; None where the prices do not know it.
    """

    type: str
    gpus: int
    gpu: str
    gpu_memory_gib: float
    memory_gib: float
    price: float | None = None


# Family: GPU and MiB of its memory: size, GPUs and GiB of main memory, and so on. Source: EC2's
# DescribeInstanceTypes, GpuInfo and MemoryInfo; a test holds the table against a recorded answer.
# p2, p3 and p6e-gb200 (the last for its Arm processors' memory) by EC2's page "Instance types".
_GPUS = """
g4dn T4 16384: xlarge 1 16 2xlarge 1 32 4xlarge 1 64 8xlarge 1 128 12xlarge 4 192 16xlarge 1 256
g5 A10G 22888: xlarge 1 16 2xlarge 1 32 4xlarge 1 64 8xlarge 1 128 12xlarge 4 192 16xlarge 1 256
g5 A10G 22888: 24xlarge 4 384 48xlarge 8 768
g6 L4 22888: xlarge 1 16 2xlarge 1 32 4xlarge 1 64 8xlarge 1 128 12xlarge 4 192 16xlarge 1 256
g6 L4 22888: 24xlarge 4 384 48xlarge 8 768
g6e L40S 45776: xlarge 1 32 2xlarge 1 64 4xlarge 1 128 8xlarge 1 256 12xlarge 4 384 16xlarge 1 512
g6e L40S 45776: 24xlarge 4 768 48xlarge 8 1536
g7 RTX-PRO-4500 32768: 2xlarge 1 32 4xlarge 1 64 8xlarge 1 128 12xlarge 2 192 24xlarge 4 384
g7 RTX-PRO-4500 32768: 48xlarge 8 768
g7e RTX-PRO-6000 98304: 2xlarge 1 64 4xlarge 1 128 8xlarge 1 256 12xlarge 2 512 24xlarge 4 1024
g7e RTX-PRO-6000 98304: 48xlarge 8 2048
p2 K80 12288: xlarge 1 61 8xlarge 8 488 16xlarge 16 732
p3 V100 16384: 2xlarge 1 61 8xlarge 4 244 16xlarge 8 488
p3dn V100 32768: 24xlarge 8 768
p4d A100 40960: 24xlarge 8 1152
p4de A100 81920: 24xlarge 8 1152
p5 H100 81920: 4xlarge 1 256 48xlarge 8 2048
p5e H200 144384: 48xlarge 8 2048
p5en H200 144384: 48xlarge 8 2048
p6-b200 B200 183359: 48xlarge 8 2048
p6-b300 B300 275040: 48xlarge 8 4096
p6e-gb200 GB200 189471: 36xlarge 4 960
"""
# The GPU image's CUDA 13 has no code for Volta and older. Source: CUDA 13.0 release notes,
# "Deprecated architectures".
TOO_OLD = ("K80", "V100")

_PRICES = """
m5.large 0.115 m5.xlarge 0.23 m5.2xlarge 0.461 m5.4xlarge 0.922 m5.12xlarge 2.765
c5.xlarge 0.204 c5.2xlarge 0.408 c5.4xlarge 0.816
g4dn.xlarge 0.736 g4dn.2xlarge 0.94 g4dn.12xlarge 4.89
g5.xlarge 1.408 g5.2xlarge 1.515 g5.4xlarge 2.03 g5.8xlarge 3.06 g5.12xlarge 7.09
g5.24xlarge 10.18 g5.48xlarge 20.36
g6.xlarge 1.127 g6.2xlarge 1.222 g6.4xlarge 1.654 g6.12xlarge 5.752 g6.48xlarge 16.688
g6e.xlarge 2.326 g6e.2xlarge 2.803 g6e.4xlarge 3.755 g6e.12xlarge 13.116 g6e.48xlarge 37.664
p3.2xlarge 3.825 p4d.24xlarge 37.688 p4de.24xlarge 47.111 p5.48xlarge 113.068
"""


@cache
def gpu_instances() -> Mapping[str, Instance]:
    """Every instance type with NVIDIA GPUs, by name, without a price."""
    instances = {}
    for row in _GPUS.strip().splitlines():
        named, _, sizes = row.partition(": ")
        family, gpu, mib = named.split()
        fields = sizes.split()
        for size, gpus, memory in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            kind = f"ml.{family}.{size}"
            name, gib = gpu.replace("-", " "), round(int(mib) / 1024, 1)
            instances[kind] = Instance(kind, int(gpus), name, gib, float(memory))
    return instances


@cache
def bundled_rates() -> Mapping[str, float]:
    """US dollars an hour of the types whose price is known without asking AWS."""
    fields = _PRICES.split()
    return {f"ml.{k}": float(d) for k, d in zip(fields[::2], fields[1::2], strict=True)}


@dataclass(frozen=True)
class Prices:
    """US dollars an hour by instance type, on demand.

    Attributes:
        training: of training jobs.
        hosting: of endpoints.
        region: where these prices hold.
        as_of: the day or month that they are of.
        problem: why they are no newer; empty where they are new enough.
        spot: of managed spot training, of the types that were asked about.
    """

    training: Mapping[str, float]
    hosting: Mapping[str, float]
    region: str
    as_of: str
    problem: str = ""
    spot: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        place = f"{self.region}, {self.as_of}"
        return f"{place}; {self.problem}" if self.problem else place

    def instances(self) -> list[Instance]:
        """The GPU instances that our image runs on and that have a price, with it."""
        return [
            self.instance(kind)
            for kind, known in gpu_instances().items()
            if kind in self.training and known.gpu not in TOO_OLD
        ]

    def instance(self, kind: str) -> Instance:
        """What is known of an instance type; a type without GPUs has no memory here."""
        known = gpu_instances().get(kind) or Instance(kind, 0, "", 0, 0)
        return replace(known, price=self.training.get(kind))

    def spot_rate(self, kind: str) -> float | None:
        """US dollars an hour of managed spot training; None where it is not known."""
        return self.spot.get(kind)


def bundled_prices(problem: str = "") -> Prices:
    """Those of the table; `problem`: why not AWS's own."""
    rates = bundled_rates()
    return Prices(rates, rates, PRICES_REGION, PRICES_AS_OF, problem)


def has_gpu(instance_type: str) -> bool:
    """Whether an instance type has NVIDIA GPUs: the families g and p."""
    family = instance_type.removeprefix("ml.").partition(".")[0]
    return family[:1] in {"g", "p"} and family[1:2].isdigit() and not family.endswith("g")
