"""A model that comes packed: another training job's model.tar.gz as the `model` channel."""

from __future__ import annotations

import hashlib
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from sm_train.contract import Paths
from sm_train.errors import UserError

_USUAL = "model.tar.gz"  # what SageMaker calls a training job's artefact
_ENDINGS = (".tar.gz", ".tgz", ".tar")


def unpacked(paths: Paths, folder: Path) -> Path:
    """The folder, or what its one archive holds, where it has no model's files of its own.

    An archive is unpacked once for all processes of this host and for a run that is started again.

    Raises UserError for an archive that is broken, several of them, or one with paths out of it.
    """
    if any(folder.glob("*.json")):
        return folder
    archives = sorted(path for path in folder.iterdir() if path.name.endswith(_ENDINGS))
    archives = [path for path in archives if path.name == _USUAL] or archives
    if not archives:
        return folder
    if len(archives) > 1:
        raise UserError(
            f"holds {len(archives)} archives: {', '.join(path.name for path in archives)}",
            field=f"channel {folder.name}",
            fix=f"leave one of them there, or name it {_USUAL}",
        )
    target = paths.scratch / f"unpacked-{_identity(archives[0])}"
    if not target.is_dir():
        _unpack(archives[0], target)
    return target


def _identity(archive: Path) -> str:
    stat = archive.stat()
    text = f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _unpack(archive: Path, target: Path) -> None:
    sys.stdout.write(f"unpacking {archive.name} of channel {archive.parent.name}\n")
    sys.stdout.flush()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.part-") as folder:
        draft = Path(folder) / "model"
        draft.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    _refuse_unsafe(member, archive)
                    tar.extract(member, draft, set_attrs=False)
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # a full disk, for one
                raise
            raise UserError(
                f"cannot be unpacked: {error}",
                field=f"channel {archive.parent.name}",
                value=archive.name,
                fix="give the model.tar.gz that a training job left, whole",
            ) from error
        draft.rename(target)


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    """Files and directories below the target only: Debian 12's Python has no filters for it."""
    parts = Path(member.name).parts
    if not (member.isfile() or member.isdir()) or ".." in parts or Path(member.name).is_absolute():
        raise UserError(
            f"holds {member.name}, which is no file or directory of a model",
            field=f"channel {archive.parent.name}",
            value=archive.name,
            fix="pack the model's own files, without links",
        )
