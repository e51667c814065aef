"""A model of the Hugging Face Hub, downloaded at start: HF_MODEL_ID and HF_MODEL_REVISION.

The revision is resolved to its commit once, and everything is read at that commit, so that a branch
that moves meanwhile cannot mix two versions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sm_serve.artefact.hub_files import Choice, choose_files
from sm_serve.config import HubModel, Settings
from sm_serve.errors import StartupError

logger = logging.getLogger(__name__)

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Where the library looks for a token, in this order."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
ON = frozenset({"1", "true", "yes", "on"})
ASK_SECONDS = 30.0
SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the disk that a model is downloaded to."""
LOG_SECONDS, LOOK_SECONDS = 5.0, 0.5
COMMIT = re.compile(r"[0-9a-f]{40}")
BESIDE = frozenset({"code", "vllm.yaml"})
"""What an artefact may hold beside a model of the Hub: a script, and vLLM's settings."""
Tell = Callable[[str], None]


def check(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuses what cannot be downloaded, before anything is started. Raises StartupError."""
    wanted = settings.hub
    if wanted is None:
        return
    name = f"HF_MODEL_ID={wanted.repository!r}"
    if settings.multi_model:
        raise StartupError(
            f"{name}: a multi-model server gets its models from the platform: unset HF_MODEL_ID,"
            " or SAGEMAKER_MULTI_MODEL"
        )
    if settings.network_isolation:
        raise StartupError(
            f"{name}: in network isolation nothing can be downloaded: give the model by"
            " ModelDataUrl or ModelDataSource, and unset HF_MODEL_ID"
        )
    for variable in OFFLINE:
        if environ.get(variable, "").lower() in ON:
            raise StartupError(
                f"{name}: {variable}={environ[variable]!r} forbids the download: unset it, or give"
                " the model by ModelDataUrl or ModelDataSource"
            )
    folder = settings.artefact_dir
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others := [item for item in present if item not in BESIDE and not item.startswith(".")]:
        raise StartupError(
            f"{name}, and there is a model in {folder} as well ({', '.join(others[:5])}): unset"
            " HF_MODEL_ID to serve that, or deploy without ModelDataUrl"
        )


def download(settings: Settings, tell: Tell) -> Settings:
    """The settings of a server of the downloaded model, with the commit that it was read at.

    Args:
        settings: naming a model of the Hub.
        tell: gets what is being done, in words, for /ping.

    Raises:
        StartupError: there is no such model or revision, it may not be read, has no weights that
            may be loaded, does not fit the disk, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    assert settings.hub is not None, "check() comes first"
    tell("the model is being looked up on the Hub")
    wanted, sizes = _resolve(settings.hub)
    choice = choose_files(sizes, code=settings.trust_remote_code)
    _check_choice(wanted, choice, settings)
    total = sum(sizes[name] for name in choice.names)
    rest = sum(sizes.values()) - total
    folder = cache_folder()
    stored = folder / f"models--{wanted.repository.replace('/', '--')}" / "blobs"
    _check_space(wanted, folder, total - _bytes_in(stored))
    logger.info(
        "downloading %s at %s: %d files, %s; left out are %d files, %s, of other formats or not"
        " needed", wanted.repository, wanted.commit, len(choice.names), _size(total),
        len(sizes) - len(choice.names), _size(rest),
    )  # fmt: skip
    began, there = time.monotonic(), _bytes_in(stored)
    with _explained(wanted), _progress(stored, there, total, tell):
        path = snapshot_download(
            wanted.repository,
            revision=wanted.commit,
            cache_dir=folder,
            allow_patterns=[_literal(name) for name in choice.names],
        )
    logger.info("downloaded %s in %.1f s", wanted.repository, time.monotonic() - began)
    return replace(settings, hub=wanted, hub_path=path)


def _resolve(wanted: HubModel) -> tuple[HubModel, dict[str, int]]:
    """The model with its commit, and the sizes of the repository's files."""
    from huggingface_hub import HfApi

    with _explained(wanted):
        info: Any = HfApi().model_info(
            wanted.repository, revision=wanted.revision, files_metadata=True, timeout=ASK_SECONDS
        )
    if not COMMIT.fullmatch(info.sha or ""):
        raise StartupError(f"HF_MODEL_ID={wanted.repository!r}: the Hub names no commit of it")
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    if wanted.revision != info.sha:
        logger.warning(
            "HF_MODEL_REVISION=%r may move, and is %s now: set that to serve the same model at the"
            " next start", wanted.revision, info.sha,
        )  # fmt: skip
    return replace(wanted, commit=info.sha), sizes


def _check_choice(wanted: HubModel, choice: Choice, settings: Settings) -> None:
    name = f"HF_MODEL_ID={wanted.repository!r} at {wanted.commit}"
    if not choice.weights:
        raise StartupError(
            f"{name} has no weights that can be served (model.safetensors): name a repository that"
            " has them"
        )
    if choice.pickled and not settings.allow_pickle_weights:
        raise StartupError(
            f"{name} has weights as pickles alone, which can run code when loaded: name a"
            " repository or revision with safetensors, or set SM_SERVE_ALLOW_PICKLE_WEIGHTS=true"
            " if you trust it"
        )


def cache_folder() -> Path:
    """The library's own cache where one is named or there already, else a temporary folder.

    In a container nothing is written outside the temporary directory.
    """
    from huggingface_hub import constants

    own = Path(constants.HF_HUB_CACHE)
    named = any(os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"))
    if named or (own.is_dir() and os.access(own, os.W_OK)):
        return own
    return Path(tempfile.gettempdir()) / "sm-serve-hub"


def _check_space(wanted: HubModel, folder: Path, needed: int) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed + SPARE_BYTES > free:
        raise StartupError(
            f"HF_MODEL_ID={wanted.repository!r} needs {_size(needed)}, and {folder} has"
            f" {_size(free)} free: set HF_HOME to a folder on a larger disk, or take an instance"
            " with one"
        )


@contextlib.contextmanager
def _progress(stored: Path, before: int, total: int, tell: Tell) -> Iterator[None]:
    """Tells how far the download is, while the block runs."""
    from threading import Event, Thread

    done = Event()

    def watch() -> None:
        told = time.monotonic()
        while not done.wait(LOOK_SECONDS):
            have = min(_bytes_in(stored) - before, total)
            message = f"{_size(have)} of {_size(total)}"
            tell(f"the model is being downloaded: {message}")
            if time.monotonic() - told > LOG_SECONDS:
                told = time.monotonic()
                logger.info("downloaded %s", message)

    tell(f"the model is being downloaded: 0 of {_size(total)}")
    thread = Thread(target=watch, name="sm-serve-download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tell("the model is loading")


def _bytes_in(folder: Path) -> int:
    """Of all files in a folder, those half downloaded too."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                total += entry.stat().st_size
    return total


def _literal(name: str) -> str:
    """A name as a pattern that means it alone."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _size(count: int) -> str:
    megabytes = count / 1e6
    return f"{megabytes / 1e3:.1f} GB" if megabytes >= 1e4 else f"{megabytes:.1f} MB"


@contextlib.contextmanager
def _explained(wanted: HubModel) -> Iterator[None]:
    """The library's errors as StartupError: field, value, fix. No token is ever in them."""
    from huggingface_hub import errors

    name = f"HF_MODEL_ID={wanted.repository!r}"
    token = next((variable for variable in TOKENS if os.environ.get(variable)), None)
    told = f"{token} is set" if token else f"{TOKENS[0]} is not set"
    try:
        yield
    except StartupError:
        raise
    except errors.GatedRepoError as error:
        raise StartupError(
            f"{name} is gated ({told}): ask for access on its page, and set HF_TOKEN to the token"
            " of an account that has it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise StartupError(
            f"{name}: there is no such model, or it is private ({told}): correct the name, or set"
            " HF_TOKEN to a token that may read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise StartupError(
            f"HF_MODEL_REVISION={wanted.revision!r}: {wanted.repository} has no such revision:"
            " give a branch, a tag or a commit"
        ) from error
    except Exception as error:  # the library's own, those of its HTTP client, the disk's
        raise StartupError(
            f"{name} cannot be downloaded: {_first_line(error)}. Check the network, HF_ENDPOINT"
            " and the free disk space"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    for variable in TOKENS:
        if secret := os.environ.get(variable):
            text = text.replace(secret, f"[{variable}]")
    return text
