"""Checkpoints: which one to resume from, and whether they will fit on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.loop.digests import file_digest
from sm_train.modelling.stored_weights import whole_safetensors

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"  # the trainer writes it last
_SEAL = "complete-{}.json"  # we write it after the trainer: every file with size and checksum
_SUM = "checksum"  # of the seal itself
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
_ADAPTER_SHARE = 0.02


def step_of(checkpoint: Path) -> int:
    """The optimizer step in `checkpoint-120`; -1 for another name."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; partial ones are passed over."""
    return max(_whole(folder), key=step_of, default=None)


def whole_steps(folder: Path) -> list[int]:
    """The steps of all checkpoints that were written to their end."""
    return sorted(map(step_of, _whole(folder)))


def _whole(folder: Path) -> list[Path]:
    """Complete checkpoints. Where there are sealed ones, one without a seal was cut short."""
    paths = folder.iterdir() if folder.is_dir() else ()
    complete = [p for p in paths if step_of(p) >= 0 and is_complete(p)]
    sealed = [p for p in complete if any(p.glob(_SEAL.format("*")))]
    return sealed or complete


def seal(folder: Path, process: int, **facts: Any) -> None:
    """Write down every file with size and checksum, in one move: what has a seal is whole or not.

    The platform copies checkpoints file by file, and may be cut short as well. All files reach the
    disk before the seal does. `facts`: what else the seal is to say, as JSON.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not _is_seal(p)]
    with ThreadPoolExecutor() as pool:  # hashing and waiting for the disk release the lock
        sums = list(pool.map(_on_disk, files))
    for directory in {path.parent for path in files}:
        _sync(directory)
    listed = {
        str(path.relative_to(folder)): [path.stat().st_size, digest]
        for path, digest in zip(files, sums, strict=True)
    }
    body: dict[str, Any] = {"files": listed, **facts}
    target = folder / _SEAL.format(process)
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps({**body, _SUM: _checksum_of(body)}), encoding="utf-8")
    _sync(draft)
    draft.replace(target)
    _sync(folder)


def _is_seal(path: Path) -> bool:
    return path.match(_SEAL.format("*")) or path.match(_SEAL.format("*").replace("json", "tmp"))


def _on_disk(path: Path) -> str:
    """The checksum of a file, which has reached the disk."""
    digest = file_digest(path)
    _sync(path)
    return digest


def _checksum_of(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read_seals(folder: Path) -> list[dict[str, Any]]:
    """What the seals of a folder say, one for each host. Raises ValueError for a damaged one."""
    return [_read_seal(path) for path in sorted(folder.glob(_SEAL.format("*")))]


def _read_seal(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated = content.pop(_SUM)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError(f"{path.name} cannot be read") from None
    if stated != _checksum_of(content):
        raise ValueError(f"{path.name} was changed after it was written")
    assert isinstance(content, dict)
    return content


def is_complete(checkpoint: Path) -> bool:
    """Whether every file is whole: a kill or a half-finished upload leaves short ones."""
    return damage(checkpoint) is None


def damage(checkpoint: Path, *, content: bool = False) -> str | None:
    """What is wrong with a checkpoint; None when nothing is.

    `content` reads every file again and compares its checksum; else sizes must do.
    """
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        seals = read_seals(checkpoint)
    except (OSError, ValueError, RecursionError) as error:
        return str(error)
    if seals:
        return _difference(checkpoint, seals, content)
    if isinstance(state, dict) and _looks_complete(checkpoint):
        return None
    return "it was not written to its end"


def _difference(folder: Path, seals: list[dict[str, Any]], content: bool) -> str | None:
    """The first sealed file that is not as one of its seals says.

    Each host seals what is on its own disk. Below a prefix that hosts share, the last one wins the
    files that all of them write, and a log with times in it is not equally long everywhere.
    """
    files: dict[str, list[tuple[int, str]]] = {}
    for one in seals:
        for name, (size, digest) in one["files"].items():
            files.setdefault(name, []).append((size, digest))
    for name, allowed in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size not in {size for size, _ in allowed}:
            return f"{name} is cut short"
    if content:
        with ThreadPoolExecutor() as pool:
            sums = list(pool.map(file_digest, (folder / name for name in files)))
        for name, digest in zip(files, sums, strict=True):
            if digest not in {stated for _, stated in files[name]}:
                return f"{name} was changed after it was written"
    return None


def _looks_complete(checkpoint: Path) -> bool:
    """As well as one can tell without a seal, which other tools and a late kill leave out."""
    weights = list(checkpoint.glob("*.safetensors"))
    whole = weights or list(checkpoint.glob("pytorch_model_fsdp*.bin"))
    archives = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.bin"), *checkpoint.glob("*.pth")]
    sharded = any(p.is_dir() for p in checkpoint.iterdir())  # FSDP's and DeepSpeed's own formats
    optimizer = any((checkpoint / name).is_file() for name in _OPTIMIZERS)
    if not sharded and not (whole and optimizer):
        return False
    # torch.save writes zip archives, whose directory comes last; training_args.bin is one too.
    return all(map(whole_safetensors, weights)) and all(map(zipfile.is_zipfile, archives))


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


def discard_damaged(folder: Path) -> list[str]:
    """Delete every checkpoint that is not as it was sealed, however old; returns what was wrong.

    An older one may hold the best weights, which are loaded at the end.
    """
    damaged: list[str] = []
    for path in sorted(folder.iterdir(), key=step_of) if folder.is_dir() else []:
        wrong = damage(path, content=True) if step_of(path) >= 0 else None
        if wrong:
            shutil.rmtree(path, ignore_errors=True)
            damaged.append(f"{path.name} ({wrong})")
    return damaged + [f"{name} (it was not sealed)" for name in remove_partial(folder)]


def discard_unsealed_rows(folder: Path) -> None:
    """Keep of the tokens of an earlier run what is as it was sealed: any other may be damaged."""
    try:
        seals = read_seals(folder)
        sealed = {name for one in seals for name in one["files"]}
        whole = bool(seals) and _difference(folder, seals, content=True) is None
    except ValueError:
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.rglob("*"):
        if path.is_file() and not _is_seal(path) and str(path.relative_to(folder)) not in sealed:
            path.unlink()


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
