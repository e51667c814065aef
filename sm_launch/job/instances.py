"""SageMaker's instance types: what is in them, and what an hour costs.

The prices of this table are of us-east-1 in US dollars, on demand, for training; hosting costs the
same or a few per cent more. They are approximate and stand in where AWS's own list cannot be read
(`sm_launch.target.prices`): a guard against accidents, not a quote. Other regions are up to a third
dearer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

PRICES_AS_OF = "2025-06"
PRICES_REGION = "us-east-1"
# Spot capacity costs 50 to 90 % less; the estimate takes the careful end.
SPOT_FACTOR = 0.5
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
        price: US dollars an hour of training.
    """

    type: str
    gpus: int
    gpu: str
    gpu_memory_gib: float
    memory_gib: float
    price: float


_ROWS = """
ml.m5.large        0 -    0     8  0.115
ml.m5.xlarge       0 -    0    16  0.23
ml.m5.2xlarge      0 -    0    32  0.461
ml.m5.4xlarge      0 -    0    64  0.922
ml.c5.xlarge       0 -    0     8  0.204
ml.c5.2xlarge      0 -    0    16  0.408
ml.c5.4xlarge      0 -    0    32  0.816
ml.g4dn.xlarge     1 T4   16   16  0.736
ml.g4dn.2xlarge    1 T4   16   32  0.94
ml.g4dn.12xlarge   4 T4   16  192  4.89
ml.g5.xlarge       1 A10G 24   16  1.408
ml.g5.2xlarge      1 A10G 24   32  1.515
ml.g5.4xlarge      1 A10G 24   64  2.03
ml.g5.8xlarge      1 A10G 24  128  3.06
ml.g5.12xlarge     4 A10G 24  192  7.09
ml.g5.24xlarge     4 A10G 24  384 10.18
ml.g5.48xlarge     8 A10G 24  768 20.36
ml.g6.xlarge       1 L4   24   16  1.127
ml.g6.2xlarge      1 L4   24   32  1.222
ml.g6.4xlarge      1 L4   24   64  1.654
ml.g6.12xlarge     4 L4   24  192  5.752
ml.g6.48xlarge     8 L4   24  768 16.688
ml.g6e.xlarge      1 L40S 48   32  2.326
ml.g6e.2xlarge     1 L40S 48   64  2.803
ml.g6e.4xlarge     1 L40S 48  128  3.755
ml.g6e.12xlarge    4 L40S 48  384 13.116
ml.g6e.48xlarge    8 L40S 48 1536 37.664
ml.p3.2xlarge      1 V100 16   61  3.825
ml.p4d.24xlarge    8 A100 40 1152 37.688
ml.p4de.24xlarge   8 A100 80 1152 47.111
ml.p5.48xlarge     8 H100 80 2048 113.068
"""


def table() -> dict[str, Instance]:
    """Every instance type that we know the price of, by name."""
    instances = {}
    for row in _ROWS.split("\n"):
        if row:
            kind, gpus, gpu, gpu_memory, memory, price = row.split()
            instances[kind] = Instance(
                kind, int(gpus), gpu.strip("-"), float(gpu_memory), float(memory), float(price)
            )
    return instances


@dataclass(frozen=True)
class Prices:
    """US dollars an hour by instance type, on demand.

    Attributes:
        training: of training jobs.
        hosting: of endpoints.
        region: where these prices hold.
        as_of: the day or month that they are of.
        problem: why they are no newer; empty where they are new enough.
    """

    training: Mapping[str, float]
    hosting: Mapping[str, float]
    region: str
    as_of: str
    problem: str = ""

    def __str__(self) -> str:
        place = f"{self.region}, {self.as_of}"
        return f"{place}; {self.problem}" if self.problem else place

    def instances(self) -> list[Instance]:
        """The instance types that are known and have a price, with it."""
        return [
            replace(instance, price=self.training[kind])
            for kind, instance in table().items()
            if kind in self.training
        ]


def bundled_prices(problem: str = "") -> Prices:
    """Those of the table; `problem`: why not AWS's own."""
    rates = {kind: instance.price for kind, instance in table().items()}
    return Prices(rates, rates, PRICES_REGION, PRICES_AS_OF, problem)


def has_gpu(instance_type: str) -> bool:
    """Whether an instance type has NVIDIA GPUs: the families g and p."""
    family = instance_type.removeprefix("ml.").partition(".")[0]
    return family[:1] in {"g", "p"} and family[1:2].isdigit() and not family.endswith("g")
