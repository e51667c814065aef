"""One training job as its method sees it: settings, data, and where things go."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sm_train.cache import dataset_on_disk
from sm_train.config import Config
from sm_train.contract import Paths
from sm_train.data import Data
from sm_train.stopping import StopRequest

TOKENISED = "tokenised"  # the folder under the checkpoints


@dataclass(frozen=True)
class Job:
    """Everything that a method's `train` needs."""

    paths: Paths
    config: Config
    data: Data
    model_source: str  # Hub id or directory of the base model
    stop: StopRequest
    started: float  # time.time() when the process began

    @property
    def is_main(self) -> bool:
        """Whether this process writes the logs and the artefact (rank 0)."""
        return int(os.environ.get("RANK", "0")) == 0

    def dataset(self, split: str) -> Any:
        """The rows of a split as a `datasets.Dataset`, or None without that channel."""
        rows = self.data.split(split)
        return None if rows is None else dataset_on_disk(rows, self.paths.checkpoints / TOKENISED)
