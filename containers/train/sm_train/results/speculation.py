"""Tokens guessed ahead of a language model: settings that vLLM reads beside the model.

The model checks what was guessed and takes what it would have said itself: answers stay, several
tokens come at a time.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sm_train.contract import Paths
from sm_train.errors import UserError
from sm_train.modelling.base_model import read_model_config, resolve_model

FILE = "vllm.yaml"
"""Engine arguments by vLLM's names; the serving image reads it from the artefact."""
DRAFT = "draft"
"""Channel of the smaller model, and its folder in the artefact."""
_VOCABULARY = ("tokenizer.json", "vocab.json", "tokenizer.model")


@dataclass(frozen=True)
class Speculation:
    """How tokens are guessed.

    Attributes:
        method: ngram: those that followed when the last few came before; draft: by another model.
        tokens: at a time.
        lookup: how many tokens an ngram has at most.
        draft: directory of the other model.
    """

    method: Literal["ngram", "draft"]
    tokens: int
    lookup: int
    draft: str = ""

    @property
    def sentence(self) -> str:
        """For the model card."""
        by = f"n-grams of up to {self.lookup}" if self.method == "ngram" else f"`{DRAFT}/`"
        return f"vLLM guesses {self.tokens} tokens at a time by {by} (`{FILE}`). "

    def write(self, folder: Path) -> None:
        """Settings, and the draft, into a model's directory; other settings there stay."""
        import yaml

        given: dict[str, Any] = {"method": "ngram", "prompt_lookup_max": self.lookup}
        if self.method == "draft":
            shutil.copytree(self.draft, folder / DRAFT, dirs_exist_ok=True)
            given = {"method": "draft_model", "model": DRAFT}
        path = folder / FILE
        former = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        settings = {**(former or {}), "speculative_config": given | {_COUNT: self.tokens}}
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


_COUNT = "num_speculative_tokens"


def draft_for(paths: Paths, model: str) -> str:
    """Directory of the channel's model. Raises UserError where it cannot guess for `model`."""
    folder = resolve_model(paths, f"channel:{DRAFT}", f"channel {DRAFT}")
    own, other = read_model_config(model), read_model_config(folder)
    names = [str(name) for name in other.get("architectures") or ()]
    if not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        raise _refused(f"is no language model ({' and '.join(names)})", folder)
    if own.get("vocab_size") != other.get("vocab_size"):
        raise _refused(
            f"has a vocabulary of {other.get('vocab_size')}, and the model one of "
            f"{own.get('vocab_size')}",
            folder,
        )
    for name in _VOCABULARY:
        files = [Path(place) / name for place in (model, folder)]
        if all(file.is_file() for file in files):
            if _tokens(files[0]) != _tokens(files[1]):
                raise _refused("numbers its tokens otherwise than the model", folder)
            break
    return folder


def _refused(problem: str, folder: str) -> UserError:
    return UserError(
        problem,
        field=f"channel {DRAFT}",
        value=folder,
        fix="give a smaller model of the same family, such as one that the method distillation "
        "trained",
    )


def _tokens(file: Path) -> Any:
    """What the tokens of a tokenizer's file are, whatever else it says."""
    if file.name != "tokenizer.json":
        return file.read_bytes()
    document = json.loads(file.read_text(encoding="utf-8"))
    added = [(each["id"], each["content"]) for each in document.get("added_tokens") or ()]
    return document["model"].get("vocab"), sorted(added)
