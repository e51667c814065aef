"""The part of Hugging Face's inference toolkit that inference scripts import.

Scripts written for its endpoints call `decoder_encoder.decode` and `.encode`. Where that toolkit is
not installed, modules of its name give them the same from our own readers and writers.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

from sagemaker_inference import content_types, encoder

from sm_serve.errors import UnsupportedMediaType
from sm_serve.schemas import documents, media

NAME = "sagemaker_huggingface_inference_toolkit"


def decode(content: Any, content_type: str = media.JSON) -> Any:
    """A body as a value: JSON as it is, CSV as {"inputs": [a text a row]}."""
    kind = media.parse_media_type(content_type)
    text = content if isinstance(content, str) else bytes(content).decode(kind.charset)
    if kind.type == media.JSON:
        return documents.parse_json(text)
    if kind.type == media.CSV:
        return {"inputs": documents.parse_csv(text).value}
    raise UnsupportedMediaType(f"Content-Type {kind.type!r}: send {media.JSON} or {media.CSV}")


def encode(content: Any, content_type: str = media.JSON) -> Any:
    """A prediction as a body."""
    offered = (media.JSON, media.CSV)
    return encoder.encode(content, media.choose_accept(content_type, offered, media.JSON))


def provide() -> None:
    """Makes the modules importable, unless the toolkit itself is installed."""
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return
    package, coders = types.ModuleType(NAME), types.ModuleType(f"{NAME}.decoder_encoder")
    vars(coders).update(decode=decode, encode=encode)
    vars(package).update(decoder_encoder=coders, content_types=content_types, __path__=[])
    sys.modules[NAME] = package
    sys.modules[coders.__name__] = coders
    sys.modules[f"{NAME}.content_types"] = content_types
