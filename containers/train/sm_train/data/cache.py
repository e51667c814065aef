"""Rows on disk under the checkpoint directory, so that what is computed from them is kept there.

`datasets` caches the result of a map (tokenising, packing) beside the file that it reads, by a
fingerprint of the rows and of the function. Thus a resumed job, and all ranks but the first, find
the tokens ready.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WORTH_IT = 1000  # rows; fewer are tokenised in a moment
_ROWS_A_PROCESS = 10_000


def dataset_on_disk(rows: Sequence[dict[str, Any]], folder: Path) -> Any:
    """The rows as a `datasets.Dataset`; many of them are read from `folder`, by their content."""
    from datasets import Dataset, load_from_disk

    # Arrow has one type a column. Without this a tool call would get the arguments of all others
    # as nulls.
    in_memory = Dataset.from_list(list(rows), on_mixed_types="use_json")
    if len(rows) < _WORTH_IT:
        return in_memory
    target = folder / in_memory._fingerprint
    if not target.is_dir():
        draft = folder / f".{in_memory._fingerprint}-{os.getpid()}"
        in_memory.save_to_disk(draft)
        try:
            draft.rename(target)
        except OSError:  # another rank was faster
            shutil.rmtree(draft)
    return load_from_disk(target)


def map_processes(rows: int) -> int | None:
    """Processes to tokenise with; None is this one alone, which a start of others would delay."""
    wanted = rows // _ROWS_A_PROCESS
    cores = len(os.sched_getaffinity(0))
    return min(wanted, cores) if min(wanted, cores) > 1 else None
