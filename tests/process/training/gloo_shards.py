"""`train` with shards on CPUs: accelerate knows them on accelerators only, FSDP2 itself does not.

Run by torchrun in place of `sm_train.entry`.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate.state import DistributedType, PartialState

from sm_train import entry


def main() -> None:
    """The job of the base directory, its processes taken for ones with a GPU each."""

    def set_device(state: Any) -> None:
        state.device = torch.device("cpu")
        state.distributed_type = DistributedType.MULTI_GPU

    PartialState.set_device = set_device
    os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] = "true"  # copies are not told their GPU
    entry.check_hardware = lambda *_: None
    entry.main()


if __name__ == "__main__":
    main()
