"""What a sentence-transformers directory says of its embeddings, and how they are made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sm_serve.artefact.model_files import read_json
from sm_serve.errors import StartupError

FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Ways of pooling by the words of versions before 6.0, in the order in which several are joined."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
POOLED = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How texts become vectors. Files that say nothing leave it as it is."""

    modes: tuple[str, ...] = ("mean",)
    dense: tuple[Any, ...] = ()
    normalize: bool = True
    max_length: int | None = None
    lower: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    """What every text begins with unless a request says otherwise."""

    def vectors(self, hidden: Any, mask: Any) -> Any:
        """One vector a text, out of its tokens' hidden states, before it is normalized."""
        import torch

        pooled = torch.cat([pool(hidden, mask, mode) for mode in self.modes], dim=-1)
        for layer in self.dense:
            pooled = layer(pooled)
        return pooled


def pool(hidden: Any, mask: Any, mode: str) -> Any:
    """One way of pooling. `mask` is 1 where a token is no padding."""
    positions = mask.cumsum(-1) * mask
    if mode in ("cls", "lasttoken"):
        wanted = 1 if mode == "cls" else positions.amax(-1, keepdim=True)
        chosen = (positions == wanted).int().argmax(-1)
        return hidden[range(len(hidden)), chosen]
    if mode == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)
    weights = (positions if mode == "weightedmean" else mask).unsqueeze(-1).to(hidden.dtype)
    total = weights.sum(1)
    return (hidden * weights).sum(1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def read_recipe(path: Path, default: Recipe, device: Any) -> Recipe:
    """What the files of a directory say. StartupError for what is not served."""
    modules = [("Pooling", path / "1_Pooling")]
    recipe = default
    if (path / "modules.json").is_file():
        modules = read_modules(path)
        recipe = _read_layers(modules, default, device)
    pooling = next((folder for kind, folder in modules if kind == "Pooling"), path) / "config.json"
    if pooling != path / "config.json" and pooling.is_file():
        recipe = replace(recipe, modes=read_modes(pooling))
    for file in sorted(path.glob("sentence_*_config.json")):
        values = read_json(file)
        recipe = replace(
            recipe,
            max_length=values.get("max_seq_length") or recipe.max_length,
            lower=bool(values.get("do_lower_case", recipe.lower)),
        )
    return _read_prompts(path, recipe, pooling)


def read_modes(config: Path) -> tuple[str, ...]:
    """The ways of pooling that are joined."""
    values = read_json(config)
    named = values.get("pooling_mode")  # as sentence-transformers writes it from 6.0 on
    if named is None:
        modes = tuple(mode for flag, mode in FLAGS.items() if values.get(flag)) or ("mean",)
    else:
        modes = (named,) if isinstance(named, str) else tuple(named)
    if not modes or not set(modes) <= set(FLAGS.values()):
        raise StartupError(f"{config}: poolings that are served are {', '.join(FLAGS.values())}")
    return modes


def read_modules(path: Path) -> list[tuple[str, Path]]:
    """The kind and the folder of each module, in order."""
    file = path / "modules.json"
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        return [(str(each["type"]).rsplit(".", 1)[-1], path / each["path"]) for each in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{file} is no list of sentence-transformers' modules") from error


def _read_layers(modules: list[tuple[str, Path]], recipe: Recipe, device: Any) -> Recipe:
    dense: list[Any] = []
    normalize = False
    for kind, folder in modules:
        if kind == "Dense" and not normalize:
            dense.append(read_dense(folder, device))
        elif kind == "Normalize":
            normalize = True
        elif kind not in ("Transformer", "Pooling", "Dropout"):
            raise StartupError(f"{folder}: a {kind} at this place is not served")
    return replace(recipe, dense=tuple(dense), normalize=normalize)


def read_dense(folder: Path, device: Any) -> Any:
    """A layer after the pooling."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch import nn

    values = read_json(folder / "config.json")
    name = str(values.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    ends = [values.get(end) or POOLED for end in ("module_input_name", "module_output_name")]
    if name not in ACTIVATIONS or values.get("use_residual") or ends != [POOLED, POOLED]:
        raise StartupError(
            f"{folder}: of Dense modules those of the pooled vector are served, without residual,"
            f" with {', '.join(ACTIVATIONS)}"
        )
    try:
        tensors = load_file(folder / "model.safetensors")
        outputs, inputs = tensors["linear.weight"].shape
        layer = nn.Linear(inputs, outputs, bias="linear.bias" in tensors)
        layer.load_state_dict({key.removeprefix("linear."): t for key, t in tensors.items()})
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise StartupError(
            f"{folder}/model.safetensors is missing or damaged: save the model again"
        ) from error
    return nn.Sequential(layer, getattr(nn, name)()).float().to(device).eval()


def _read_prompts(path: Path, recipe: Recipe, pooling: Path) -> Recipe:
    file = path / "config_sentence_transformers.json"
    if not file.is_file():
        return recipe
    values = read_json(file)
    prompts = {str(name): str(text) for name, text in (values.get("prompts") or {}).items()}
    default = prompts.get(str(values.get("default_prompt_name")), "")
    skipped = pooling.is_file() and read_json(pooling).get("include_prompt") is False
    if skipped and any(prompts.values()):
        raise StartupError(f"{pooling}: include_prompt: false is not served with prompts")
    return replace(recipe, prompts=prompts, prompt=default)


def begin(texts: Sequence[Any], recipe: Recipe, name: str | None) -> list[Any]:
    """The texts as the model is to read them. KeyError for a prompt that there is not."""
    prompt = recipe.prompt if name is None else recipe.prompts[name]
    if not prompt and not recipe.lower:
        return list(texts)
    whole = [prompt + text if isinstance(text, str) else text for text in texts]
    return [t.lower() if recipe.lower and isinstance(t, str) else t for t in whole]
