"""Raw data on the Hugging Face Hub: `hf://datasets/OWNER/NAME[@REVISION]/PATH`, by its library."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.data.sources import is_data
from sm_launch.errors import LaunchError, UserInputError

SCHEME = "hf://"
_PREFIX = f"{SCHEME}datasets/"


@dataclass(frozen=True)
class Place:
    """A file, folder or glob of a data set."""

    repository: str
    revision: str | None
    path: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Take a URI apart.

        Raises:
            UserInputError: it names no data set.
        """
        owner, _, rest = uri.removeprefix(_PREFIX).partition("/")
        name, _, path = rest.partition("/")
        name, _, revision = name.partition("@")
        if not uri.startswith(_PREFIX) or not owner or not name:
            raise UserInputError(
                "names no data set of the Hub",
                field="data",
                value=uri,
                fix="give hf://datasets/OWNER/NAME/PATH, with @REVISION behind NAME if wanted",
            )
        return cls(f"{owner}/{name}", revision or None, path.strip("/"))


def fetch(uri: str, directory: Path) -> Path:
    """The file that a URI names, in the Hub's own cache; of several a folder of links to them.

    Args:
        uri: of a file, a folder or a glob such as `data/train-*.parquet`.
        directory: for the links; the caller removes it.

    Raises:
        UserInputError: there is no such data set or file, or it may not be read.
        LaunchError: the Hub cannot be reached, or its library is not installed.
    """
    place = Place.of(uri)
    with _explained(uri):
        if place.path and not set(place.path) & set("*?["):
            file = _file(place, place.path)
            if file is not None:
                return file
        return _folder(place, uri, directory)


def _file(place: Place, path: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(place.repository, path, repo_type="dataset", revision=place.revision)
        )
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return None


def _folder(place: Place, uri: str, directory: Path) -> Path:
    from huggingface_hub import list_repo_files

    files = list_repo_files(place.repository, repo_type="dataset", revision=place.revision)
    inside = f"{place.path}/" if place.path else ""
    named = [f for f in files if f.startswith(inside) or fnmatch.fnmatchcase(f, place.path)]
    wanted = [name for name in named if is_data(name)]
    if not wanted:
        raise UserInputError(
            "no such data file in this data set",
            field="data",
            value=uri,
            fix=f"its files are: {', '.join(files[:20]) or 'none'}",
        )
    root = directory / place.repository
    for name in wanted:
        file = _file(place, name)
        if file is not None:
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    return root / place.path if inside and (root / place.path).is_dir() else root


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        from huggingface_hub import errors
    except ImportError:
        raise LaunchError(
            "needs the package huggingface_hub",
            field="data",
            value=uri,
            fix="pip install 'sm-launch[hub]'",
        ) from None
    try:
        yield
    except LaunchError:
        raise
    except errors.GatedRepoError as error:
        raise _refused(uri, "is gated", "ask for access on its page, and set HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        reason = "no such data set, or it is private"
        raise _refused(uri, reason, "correct the name, or set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise _refused(uri, "no such revision", "correct what stands behind @") from error
    except Exception as error:  # the library's own, those of its HTTP client, the disk's
        raise LaunchError(
            f"the Hub cannot be read: {_first_line(error)}",
            field="data",
            value=uri,
            fix="check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or download the file and name "
            "its path",
        ) from error


def _refused(uri: str, reason: str, fix: str) -> UserInputError:
    return UserInputError(reason, field="data", value=uri, fix=fix)


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
