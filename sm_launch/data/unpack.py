"""Compressed files, unpacked into a scratch directory before they are read.

What a file is follows from its first bytes: `.gz` names outlive clients that unpack by themselves.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from sm_launch.errors import LaunchError, UserInputError

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
"""A first block, or the end of a stream without any."""
_TAR_MAGIC_AT = 257
_DEEPEST = 3
"""Archives in archives: a .csv.gz in a .zip, and no more than that."""
_SPREADSHEETS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml", "word/document.xml")
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, NotImplementedError)


def unpacked(
    path: Path, name: str, scratch: Path, *, field: str, location: str
) -> Iterator[tuple[str, Path]]:
    """The name and the path of each file that `path` holds; itself where it is not compressed.

    Args:
        path: of a file.
        name: what it is called, for its suffix.
        scratch: directory for what is unpacked; the caller removes it.
        field: for messages.
        location: likewise.

    Raises:
        UserInputError: the archive is damaged, encrypted, or nested too deep.
        LaunchError: no space is left.
    """
    yield from _Unpacker(scratch, field, location).files(path, name, 0)


def plain_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in SUFFIXES[:-1] else name


class _Unpacker:
    def __init__(self, scratch: Path, field: str, location: str) -> None:
        self._scratch = scratch
        self._field = field
        self._location = location

    def files(self, path: Path, name: str, depth: int) -> Iterator[tuple[str, Path]]:
        kind = _kind(path)
        if _is_tar(path):
            raise self._refuse("is a tar archive", "unpack it, or pack its tables as a .zip")
        if kind is None:
            yield name, path
            return
        if depth == _DEEPEST:
            raise self._refuse("is packed in too many archives", "unpack it first")
        if kind == "zip":
            yield from self._members(path, name, depth)
            return
        target = self._new_file()
        self._copy(lambda: _OPENERS[kind](path), target, name)
        yield from self.files(target, plain_name(name), depth + 1)

    def _members(self, path: Path, name: str, depth: int) -> Iterator[tuple[str, Path]]:
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                self._check_members(infos)
                for info in infos:
                    if info.is_dir() or is_hidden(info.filename):
                        continue
                    target = self._new_file()
                    member = f"{name}/{info.filename}"
                    self._copy(lambda info=info: archive.open(info), target, member)  # type: ignore[misc]
                    yield from self.files(target, member, depth + 1)
        except zipfile.BadZipFile as error:
            raise self._damaged(name, error) from error

    def _check_members(self, infos: list[zipfile.ZipInfo]) -> None:
        names = [info.filename for info in infos]
        if any(name in names for name in _SPREADSHEETS):
            raise self._refuse("is a spreadsheet or an office document", "export it as CSV")
        if any(info.flag_bits & 1 for info in infos):
            raise self._refuse("is an encrypted archive", "unpack it with its password first")

    def _new_file(self) -> Path:
        return self._scratch / f"unpacked-{len(list(self._scratch.iterdir()))}"

    def _copy(self, opened: Callable[[], IO[bytes]], target: Path, name: str) -> None:
        try:
            with opened() as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LaunchError(
                    "no space left to unpack it",
                    field=self._field,
                    value=self._location,
                    fix="free some, or set TMPDIR to a directory on another disk",
                ) from error
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> UserInputError:
        return self._refuse(
            f"{name} is a damaged archive, or was cut off: {error}", "fetch or make it again"
        )

    def _refuse(self, problem: str, fix: str) -> UserInputError:
        return UserInputError(problem, field=self._field, value=self._location, fix=fix)


def is_hidden(name: str) -> bool:
    """Whether a path leads to what is no data: .DS_Store, __MACOSX, ._forks, _SUCCESS."""
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(10)
    return next((kind for kind, is_it in _MAGIC.items() if is_it(start)), None)


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_TAR_MAGIC_AT)
        return file.read(5) == b"ustar"


def _zst(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


_MAGIC: dict[str, Callable[[bytes], bool]] = {
    "gz": lambda start: start.startswith(b"\x1f\x8b\x08"),
    "bz2": lambda start: start[:3] == b"BZh" and start[4:10] in _BZ2_BLOCKS,
    "xz": lambda start: start.startswith(b"\xfd7zXZ\x00"),
    "zst": lambda start: start.startswith(b"\x28\xb5\x2f\xfd"),
    "zip": lambda start: start.startswith((b"PK\x03\x04", b"PK\x05\x06")),
}
_OPENERS: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "bz2": bz2.open,
    "xz": lzma.open,
    "zst": _zst,
}
