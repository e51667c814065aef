"""Images of rows: parts of messages and the column `images` become files, looked at one by one.

TRL's "Vision dataset" format, with the images as paths in the channel, as bytes (Parquet as
`datasets` writes it, or base64) or as data: URLs. A row keeps paths alone: an image is decoded when
its batch is made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_train.data.cells import nested
from sm_train.data.messages import IMAGE, Message, common_prompt, parts_of
from sm_train.errors import UserError, shorten

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

IMAGES = "images"
COLUMNS = (IMAGES, "image")  # of rows; the second holds one image
MAX_PIXELS = 89_478_485
"""Of one image: from here on Pillow warns of a decompression bomb."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_CHATS = ("prompt", "messages", "completion", "chosen", "rejected")
_NOT_RENDERED = ("tools", "learn")
_ASKING = ("system", "developer", "user")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LEAST_BASE64 = 64  # characters: no image is shorter


@dataclass(frozen=True, eq=False)
class Pictures:
    """Where the images of one source lie.

    Attributes:
        channel: its folder; None for rows of the Hub, which hold their images or name local files.
        scratch: where images that come as bytes are written, by their content.
        used: paths that rows have named.
    """

    channel: Path | None
    scratch: Path
    used: set[Path] = field(default_factory=set)

    def settle(self, reference: Any, file: str) -> str:
        """The path of an image that the row of a file names or holds. ValueError for a bad one."""
        content = _content(reference)
        path = self._path(content, file) if isinstance(content, str) else self._written(content)
        if path not in self.used:
            _look(path)
            self.used.add(path)
        return str(path)

    def _path(self, name: str, file: str) -> Path:
        scheme = _SCHEME.match(name)
        if scheme:
            raise ValueError(
                f"an image is at an address ({scheme[1].lower()}://), and none is fetched: put the "
                "file into the channel"
            )
        if self.channel is None:
            return _existing(Path(name), name)
        top = Path(os.path.normpath(self.channel))
        for folder in ((self.channel / file).parent, self.channel):
            path = Path(os.path.normpath(folder / name))
            if not path.is_relative_to(top):
                raise ValueError(f"the image {shorten(name)} lies outside the channel")
            if os.path.isfile(path):  # noqa: PTH113 - a name that is too long is none either
                return path
        content = _from_base64(name) if len(name) >= _LEAST_BASE64 else None
        if content is None:
            raise ValueError(f"the channel has no image {shorten(name)}")
        return self._written(content)

    def _written(self, content: bytes) -> Path:
        """A file for an image's bytes, the same for all processes and for a run again."""
        folder = self.scratch / IMAGES
        path = folder / hashlib.sha256(content).hexdigest()
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
                draft.write(content)
            Path(draft.name).rename(path)
        return path


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no image {shorten(name)}")
    return path


def _content(reference: Any) -> bytes | str:
    """An image's bytes, or the path or address at which it is."""
    if isinstance(reference, dict):
        kinds = ("bytes", "base64", "url", "image_url", "path", "image")
        kind = next((name for name in kinds if reference.get(name) is not None), None)
        if kind is None:
            raise ValueError(f"an image has neither bytes nor a path: {shorten(str(reference))}")
        value = reference[kind]
        if kind in ("bytes", "base64") and isinstance(value, str):
            value = _from_base64(value)
        return b"" if value is None else _content(value)
    if isinstance(reference, str) and reference.startswith("data:"):
        return _from_base64(reference.partition(",")[2]) or b""
    if isinstance(reference, str) and reference.strip():
        return reference
    if isinstance(reference, bytes):
        return reference
    raise ValueError(f"an image is a {type(reference).__name__}, not a path, bytes or a data: URL")


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _look(path: Path) -> None:
    """Read an image's head. Raises ValueError for what is none, or is too large to decode."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            with Image.open(path) as picture:
                width, height = picture.size
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image {path.name} is too large: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        reason = str(error).replace(str(path), path.name)
        raise ValueError(f"{path.name} is no image that can be read: {shorten(reason)}") from None
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"the image {path.name} has {width} x {height} pixels, more than {MAX_PIXELS}"
        )


def is_image_file(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(_SUFFIXES)


def with_images(
    cleaned: dict[str, Any], row: dict[str, Any], pictures: Pictures, file: str
) -> dict[str, Any]:
    """A cleaned row with its images as paths, in the order of the image parts of its messages.

    Args:
        cleaned: what the method made of the row.
        row: the row itself, for the columns of images.
        pictures: where they lie.
        file: the row's own, beside which paths begin, or at the channel's top.

    Raises ValueError for a row whose images are missing, too many, or cannot be read.
    """
    given = _given(row)
    if given is None and not any(_image_parts(cleaned)):
        return cleaned
    if not any(isinstance(cleaned.get(name), list) for name in _CHATS) and "prompt" not in cleaned:
        raise ValueError("images go with messages, or with prompt and completion")
    for name in _NOT_RENDERED if "chosen" in cleaned else (*_NOT_RENDERED, "chat_template_kwargs"):
        if cleaned.get(name):
            raise ValueError(f"TRL's trainer would leave out {name} beside images")
    cleaned = _with_prompt(dict(cleaned))
    chats = [name for name in _CHATS if isinstance(cleaned.get(name), list)]
    if given and chats and not any(_image_parts(cleaned)):
        cleaned[chats[0]] = _before_first_question(cleaned[chats[0]], len(given))
    references = _in_order(cleaned, list(given or ())) if chats else list(given or ())
    return {
        **{name: _structured(v) if name in chats else v for name, v in cleaned.items()},
        IMAGES: [pictures.settle(reference, file) for reference in references],
    }


def has_images(row: dict[str, Any]) -> bool:
    """Whether a cleaned row is of the form that has images, be there none in it."""
    return row.get(IMAGES) is not None


def without_images(row: dict[str, Any]) -> dict[str, Any]:
    """A row of text among rows with images, in their form."""
    if has_images(row):
        return row
    chats = {n: _structured(v) for n, v in row.items() if n in _CHATS and isinstance(v, list)}
    return {**row, **chats, IMAGES: []}


def check_no_images(cleaned: dict[str, Any], row: dict[str, Any], config: Config) -> None:
    """Raise UserError where rows have images that a method, or a stream, would not look at."""
    method = config.method
    conversational = method.training_config.startswith("trl")
    column = next((name for name in COLUMNS if row.get(name) is not None), None)
    if any(_image_parts(cleaned)):
        column = "an image in messages"
    elif column is None or not (conversational or _holds_image(row[column])):
        return
    if method.images:
        raise UserError(
            "reads rows of text alone, and these have images",
            field="streaming",
            value=True,
            fix="remove the setting: of images only the paths are in memory",
        )
    raise UserError(
        "the rows have images, which only sft and dpo train on",
        field="method",
        value=method.name,
        fix="use sft or dpo with a base model that takes images; or take the images out of the "
        f"rows ({column})",
    )


def _holds_image(value: Any) -> bool:
    """Whether a cell is an image itself; encoders may have a column of addresses beside texts."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict):
        return isinstance(first.get("bytes"), bytes | str)
    return isinstance(first, bytes) or (isinstance(first, str) and first.startswith("data:image/"))


def _given(row: dict[str, Any]) -> list[Any] | None:
    """The images of a row's column; None where it has none."""
    columns = [name for name in COLUMNS if row.get(name) is not None]
    if len(columns) > 1:
        raise ValueError("both a column images and a column image: leave one of them out")
    if not columns:
        return None
    value = row[columns[0]]
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = nested(value)
    return list(value) if isinstance(value, list) else [value]


def _image_parts(row: dict[str, Any]) -> Iterator[Message]:
    for name in _CHATS:
        for message in row[name] if isinstance(row.get(name), list) else ():
            yield from (part for part in parts_of(message) if part["type"] == IMAGE)


def _with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """Whole conversations as chosen and rejected, with what they begin with as the prompt."""
    if "prompt" in row or not isinstance(row.get("chosen"), list):
        return row
    chosen, rejected = row["chosen"], row["rejected"]
    prompt = common_prompt(chosen, rejected)
    return {
        **row,
        "prompt": prompt,
        "chosen": chosen[len(prompt) :],
        "rejected": rejected[len(prompt) :],
    }


def _before_first_question(messages: list[Message], count: int) -> list[Message]:
    """As TRL places the images of messages that say no places."""
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        raise ValueError("there is no user's message that its images could go with")
    message = messages[first]
    placed = {**message, "content": [{"type": IMAGE} for _ in range(count)] + parts_of(message)}
    return [*messages[:first], placed, *messages[first + 1 :]]


def _in_order(row: dict[str, Any], given: list[Any]) -> list[Any]:
    """The image of each part: its own, or the next of the column's."""
    references: list[Any] = []
    waiting, open_parts = list(given), 0
    for name in _CHATS:
        for message in row[name] if isinstance(row.get(name), list) else ():
            for part in parts_of(message):
                if part["type"] != IMAGE:
                    continue
                if message["role"] not in _ASKING or name in ("completion", "chosen", "rejected"):
                    raise ValueError("an answer has an image, and a model writes text alone")
                own = part.get(IMAGE)
                open_parts += own is None
                references.append(own if own is not None else waiting.pop(0) if waiting else None)
    if open_parts != len(given):
        raise ValueError(f"{len(given)} images for {open_parts} image parts without one of its own")
    return references


def _structured(messages: list[Message]) -> list[Message]:
    """Messages whose content is parts throughout, as templates of such models read it."""
    return [{**message, "content": [_bare(p) for p in parts_of(message)]} for message in messages]


def _bare(part: Message) -> Message:
    return {"type": IMAGE} if part["type"] == IMAGE else part
