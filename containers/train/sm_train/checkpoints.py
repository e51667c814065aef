"""Checkpoints: which one to resume from, and whether they will fit on the disk."""

from __future__ import annotations

import json
import math
import re
import shutil
import zipfile
from pathlib import Path

from sm_train.contract import Paths
from sm_train.errors import UserError

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"  # the trainer writes it last
_SEAL = "complete-{}.json"  # we write it after the trainer: every file with its size
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
_HEADER_BYTES = 8
_ADAPTER_SHARE = 0.02


def step_of(checkpoint: Path) -> int:
    """The optimizer step in `checkpoint-120`; -1 for another name."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; partial ones are passed over."""
    if not folder.is_dir():
        return None
    found = sorted((p for p in folder.iterdir() if step_of(p) >= 0), key=step_of, reverse=True)
    return next((p for p in found if is_complete(p)), None)


def whole_steps(folder: Path) -> list[int]:
    """The steps of all checkpoints that were written to their end."""
    if not folder.is_dir():
        return []
    return sorted(step_of(p) for p in folder.iterdir() if step_of(p) >= 0 and is_complete(p))


def seal(checkpoint: Path, process: int) -> None:
    """Write down every file and its size, in one move: a checkpoint with a seal is whole or not.

    The platform copies checkpoints file by file, and may be cut short as well.
    """
    sizes = {
        str(path.relative_to(checkpoint)): path.stat().st_size
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and not path.match(_SEAL.format("*"))
    }
    target = checkpoint / _SEAL.format(process)
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps(sizes), encoding="utf-8")
    draft.replace(target)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file is whole: a kill or a half-finished upload leaves short ones."""
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        seals = [json.loads(p.read_text("utf-8")) for p in checkpoint.glob(_SEAL.format("*"))]
    except (OSError, ValueError):
        return False
    if seals:
        return _matches(checkpoint, seals)
    return _looks_complete(checkpoint)


def _matches(checkpoint: Path, seals: list[dict[str, int]]) -> bool:
    """Whether every sealed file is there, with a size that one of its seals gives.

    Each host seals what is on its own disk. Below a prefix that hosts share, the last one wins the
    files that all of them write, and a log with times in it is not equally long everywhere.
    """
    sizes: dict[str, set[int]] = {}
    for one in seals:
        for name, size in one.items():
            sizes.setdefault(name, set()).add(size)
    return all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size in allowed
        for name, allowed in sizes.items()
    )


def _looks_complete(checkpoint: Path) -> bool:
    """As well as one can tell without a seal, which other tools and a late kill leave out."""
    weights = list(checkpoint.glob("*.safetensors"))
    archives = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.bin"), *checkpoint.glob("*.pth")]
    sharded = any(p.is_dir() for p in checkpoint.iterdir())  # FSDP's and DeepSpeed's own formats
    optimizer = any((checkpoint / name).is_file() for name in _OPTIMIZERS)
    if not sharded and not (weights and optimizer):
        return False
    # torch.save writes zip archives, whose directory comes last; training_args.bin is one too.
    return all(map(_whole_safetensors, weights)) and all(map(zipfile.is_zipfile, archives))


def _whole_safetensors(path: Path) -> bool:
    """The header tells where the last tensor ends (safetensors format, "Format" section)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_BYTES), "little")
            size = path.stat().st_size
            if length > size:
                return False
            header = json.loads(file.read(length))
    except (OSError, ValueError, MemoryError):
        return False
    ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    return size == _HEADER_BYTES + length + max(ends, default=0)


def remove_partial(folder: Path) -> list[str]:
    """Delete checkpoints newer than the last complete one: they would be taken for good ones."""
    good = last_complete(folder)
    oldest_bad = step_of(good) if good else -1
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if step_of(path) > oldest_bad:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path.name)
    return removed


def stored_weights(source: str) -> tuple[int, int]:
    """Parameters of a local model and the bytes they take; zeros for a Hub id, not known yet."""
    folder = Path(source)
    files = [*folder.glob("*.safetensors")] if folder.is_dir() else []
    parameters = size = 0
    for path in files:
        if not _whole_safetensors(path):
            raise UserError(
                "is cut short, or is not a safetensors file",
                field="model_name_or_path",
                value=str(path),
                fix="copy the base model's files again (a Git LFS pointer is not the file)",
            )
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_HEADER_BYTES), "little")
            header = json.loads(file.read(length))
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        parameters += sum(math.prod(tensor["shape"]) for tensor in tensors)
        size += path.stat().st_size
    return parameters, size


def needed_bytes(
    parameters: int, width: float, *, lora: bool, checkpoints: int, merged: bool = True
) -> int:
    """Disk for the artefact and for `checkpoints` checkpoints at once; `width`: bytes a parameter.

    A checkpoint holds the trained weights and Adam's two moments. One more is there while an old
    one is being replaced. Adapters are taken as a fiftieth of the model.
    """
    trained = parameters * (_ADAPTER_SHARE if lora else 1)
    artefact = parameters if merged else trained
    return int(width * (artefact + 3 * trained * (checkpoints + 1)))


def check_disk(paths: Paths, needed: int) -> None:
    """Raise UserError when the disk under the base directory cannot hold `needed` bytes."""
    free = shutil.disk_usage(paths.base).free
    if free < needed:
        raise UserError(
            f"not enough disk: about {needed / 1e9:.2f} GB are needed for checkpoints and the "
            f"model, {free / 1e9:.2f} GB are free",
            field="disk",
            value=str(paths.base),
            fix="raise VolumeSizeInGB, lower save_total_limit, or set use_peft to true",
        )
