"""Merging into a base model that is read from its files again, in a process of its own.

Training may hold the base model in shards or in four bits, which nothing can be merged into. Its
process has kernels in place (Liger's, FlashAttention) that run on a GPU alone, and that memory is
full; a new one reads the files without copying them, and holds one merged layer at a time: the
others lie in a file.
"""

from __future__ import annotations

import copy
import json
import mmap
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sm_train.errors import UserError
from sm_train.job import Job, NewTokens
from sm_train.modelling.end_of_turn import make_room
from sm_train.results.merging import merge

SHARD_SIZE = "4GB"
"""Of the artefact's files: a writer holds one of them in the host's memory."""
_SMALL = 1 << 20  # bytes: such a tensor is not worth a file
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
_REFUSED = 3


@dataclass(frozen=True)
class Plan:
    """What the other process needs to know; all of it can be written as JSON."""

    source: str  # of the base model
    revision: str
    trust_remote_code: bool
    architecture: str  # name of the model's class
    described: str  # folder with the trained model's configs and tokenizer
    adapter: str
    target: str
    dtype: str
    export: str
    new_tokens: list[int]
    rows_before: int | None


def merge_anew(job: Job, model: Any, tokenizer: Any, adapter: Path, dtype: Any) -> None:
    """Write the merged model beside (or above) the adapter's folder.

    Raises UserError as `merge` does, RuntimeError where the process ends otherwise.
    """
    options = job.config.model
    with tempfile.TemporaryDirectory() as described:
        architecture = describe(model.get_base_model(), tokenizer, Path(described))
        plan = Plan(
            source=job.model_source,
            revision=options.model_revision,
            trust_remote_code=options.trust_remote_code,
            architecture=architecture,
            described=described,
            adapter=str(adapter),
            target=str(adapter.parent),
            dtype=str(dtype).removeprefix("torch."),
            export=job.config.job.export,
            new_tokens=list(job.new_tokens.ids),
            rows_before=job.new_tokens.rows_before,
        )
        run_plan(plan)


def describe(base: Any, tokenizer: Any, folder: Path) -> str:
    """What the base model's files do not say: labels, ends of answers. The class's name."""
    config = copy.deepcopy(base.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    if base.can_generate():
        base.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # FSDP2 makes a class of its own from the model's.
    return next(k.__name__ for k in type(base).__mro__ if not k.__name__.startswith("FSDP"))


def run_plan(plan: Plan) -> None:
    """`merge_planned` in a process of its own, without the job's GPUs and ranks.

    Raises UserError as `merge` does, RuntimeError where the process ends otherwise.
    """
    path = Path(plan.described) / "plan.json"
    path.write_text(json.dumps(asdict(plan)), encoding="utf-8")
    _run(path)


def environment_of_one(**changed: str) -> dict[str, str]:
    """The environment of a process that is no rank of the job, with these variables changed."""
    kept = {key: value for key, value in os.environ.items() if key not in _RANKS}
    return {**kept, **changed}


def _run(plan: Path) -> None:
    sys.stdout.flush()
    ended = subprocess.run(
        [sys.executable, "-m", "sm_train.results.reloading", str(plan)],
        env=environment_of_one(CUDA_VISIBLE_DEVICES=""),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode == _REFUSED:
        raise UserError(**json.loads(ended.stderr.splitlines()[-1]))
    if ended.returncode:
        raise RuntimeError(f"merging the adapter failed: {ended.stderr[-2000:]}")


def main() -> None:
    """Merge as the plan says whose file is the only argument."""
    from sm_train.log import quiet_libraries

    quiet_libraries()
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        merge_planned(plan)
    except UserError as error:
        parts = {key: getattr(error, key) for key in ("message", "field", "value", "fix")}
        sys.stderr.write("\n" + json.dumps(parts, default=str) + "\n")
        sys.exit(_REFUSED)


def merge_planned(plan: Plan) -> None:
    """Read base model and adapter, merge, write the model's files."""
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        plan.described, trust_remote_code=plan.trust_remote_code
    )
    whole = PeftModel.from_pretrained(_base(plan), plan.adapter)
    dtype = getattr(torch, plan.dtype)
    with tempfile.TemporaryDirectory(dir=plan.target) as scratch:
        merged = merge(whole, tokenizer, dtype, plan.export, FileBacked(Path(scratch)))
    if getattr(merged.config, "use_cache", None) is False:
        merged.config.use_cache = True  # training had switched it off
    merged.save_pretrained(plan.target, max_shard_size=SHARD_SIZE)


def _base(plan: Plan) -> Any:
    """The base model in the type of its files, which are then mapped and not copied."""
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(plan.described, trust_remote_code=plan.trust_remote_code)
    config.dtype = None
    if plan.rows_before:
        config.get_text_config().vocab_size = plan.rows_before
    kind = model_class(plan.architecture, config, plan.source, plan.revision)
    model, loading_info = kind.from_pretrained(
        plan.source,
        config=config,
        dtype="auto",
        revision=plan.revision,
        trust_remote_code=plan.trust_remote_code,
        output_loading_info=True,
    )
    _check_read(loading_info, plan)
    make_room(NewTokens(list(plan.new_tokens)), model)
    if model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(plan.described)
    return model


def _check_read(loading_info: dict[str, Any], plan: Plan) -> None:
    """A weight that the files do not have would be drawn, and the merged model be another one.

    Only a head that the adapter brings may be missing. UserError names the others.
    """
    brought = _saved_modules(Path(plan.adapter))
    missing = [
        name
        for name in sorted(loading_info["missing_keys"])
        if not any(part in brought for part in name.split("."))
    ]
    missing += sorted(str(each) for each in loading_info["mismatched_keys"])
    if missing:
        raise UserError(
            f"the base model's files lack {len(missing)} weights of {plan.architecture}, such as "
            f"{missing[0]}, so that nothing can be merged into them",
            field="export",
            value=plan.export,
            fix="set export to adapter, or use another copy of the base model",
        )


def _saved_modules(adapter: Path) -> set[str]:
    """Modules that an adapter's files hold whole, by PEFT's `modules_to_save`."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return set(config.get("modules_to_save") or ())


def empty_model(kind: Any, config: Any) -> Any:
    """A model of a class without memory for its weights, as `from_pretrained` begins."""
    import torch
    from transformers.initialization import meta_device_safe_creation_ops, no_init_weights

    with torch.device("meta"), meta_device_safe_creation_ops(), no_init_weights():
        return kind(config)


def model_class(architecture: str, config: Any, source: str, revision: str) -> Any:
    """A model's class by its name, maybe of a base model that brings its own code.

    Raises ValueError for one that is in neither place.
    """
    import transformers
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    if own := getattr(transformers, architecture, None):
        return own
    places = (getattr(config, "auto_map", None) or {}).values()
    place = next((p for p in places if str(p).endswith(f".{architecture}")), None)
    if place is None:
        raise ValueError(f"no class {architecture} in transformers or in the base model's code")
    return get_class_from_dynamic_module(place, source, revision=revision)


class FileBacked:
    """Moves tensors out of memory into files of a folder; the system reads them when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, tensor: Any) -> Any:
        import torch

        size = tensor.numel() * tensor.element_size()
        if size < _SMALL:
            return tensor
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.truncate(size)
            pages = mmap.mmap(file.fileno(), size)
        moved = torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
        moved.copy_(tensor)
        pages.madvise(mmap.MADV_DONTNEED)  # they stay in the file
        return moved


if __name__ == "__main__":
    main()
