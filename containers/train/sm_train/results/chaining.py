"""A job that begins with another job's adapter: it is merged into its base before anything else."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from sm_train.contract import Paths, read_json
from sm_train.errors import UserError
from sm_train.modelling.base_model import ADAPTER_CONFIG, PROCESSOR_FILES, BaseModel
from sm_train.modelling.lora import LABELLED_TASKS
from sm_train.modelling.stored_weights import named_type, stored_type
from sm_train.results.reloading import Plan, run_plan
from sm_train.settings.settings import Config

_AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""PEFT's task types; any other is a language model's."""


def whole_model(paths: Paths, base: BaseModel, config: Config) -> str:
    """Directory or Hub id of a whole model: the base itself, or it with its adapter merged.

    It is merged once for all processes of this host and for a run that is started again.

    Raises UserError where the adapter cannot be merged, or changes the answers when it is.
    """
    if base.adapter is None:
        return base.source
    name = f"{base.source}@{base.revision} {base.adapter.resolve()}"
    target = paths.scratch / f"merged-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        sys.stdout.write(f"merging the adapter {base.adapter} into its base {base.source} first\n")
        sys.stdout.flush()
        paths.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=paths.scratch) as folder:
            draft = Path(folder) / "model"
            draft.mkdir()
            _merge(base, config, draft)
            draft.rename(target)
    return str(target)


def _merge(base: BaseModel, config: Config, target: Path) -> None:
    adapter = Path(str(base.adapter))
    options = config.model
    with tempfile.TemporaryDirectory() as described:
        described_config = _describe(base, adapter, Path(described), options.trust_remote_code)
        plan = Plan(
            source=base.source,
            revision=base.revision,
            trust_remote_code=options.trust_remote_code,
            architecture=_architecture(adapter, described_config),
            described=described,
            adapter=str(adapter),
            target=str(target),
            dtype=stored_type(base.source) or named_type(described_config) or "float32",
            export="merged",
            new_tokens=[],
            rows_before=None,
        )
        run_plan(plan)
        for file in Path(described).iterdir():  # the tokenizer's files; the model wrote its own
            if file.name != "plan.json" and not (target / file.name).exists():
                shutil.copyfile(file, target / file.name)


def _describe(base: BaseModel, adapter: Path, folder: Path, trust_remote_code: bool) -> Any:
    """The model's config, generation settings and tokenizer, in a folder; the config."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    options = {"revision": base.revision, "trust_remote_code": trust_remote_code}
    own = (adapter / "config.json").is_file()
    config = AutoConfig.from_pretrained(adapter if own else base.source, **options)
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            "is quantised, and no adapter can be merged into it",
            field="base model of the adapter",
            value=base.source,
            fix="give the base model that is not quantised as the channel base",
        )
    config.save_pretrained(folder)
    named = any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    source = adapter if named else base.source
    AutoTokenizer.from_pretrained(source, **options).save_pretrained(folder)
    for place in (base.source, adapter):  # the adapter's own go before the base model's
        for name in PROCESSOR_FILES:
            if (Path(place) / name).is_file():
                shutil.copyfile(Path(place) / name, folder / name)
    told = (adapter / "generation_config.json").is_file()
    try:
        GenerationConfig.from_pretrained(
            adapter if told else base.source, revision=base.revision
        ).save_pretrained(folder)
    except OSError:  # an encoder has none
        GenerationConfig.from_model_config(config).save_pretrained(folder)
    return config


def _architecture(adapter: Path, config: Any) -> str:
    """The class that the adapter was trained in: what its task is called in its base's family."""
    import transformers

    task = str(read_json(adapter / ADAPTER_CONFIG).get("task_type"))
    if task in LABELLED_TASKS and not (adapter / "config.json").is_file():
        raise UserError(
            f"says neither labels nor their number (task_type {task})",
            field="adapter",
            value=str(adapter),
            fix="put the config.json of the model that it was trained in beside it",
        )
    seeing = any((adapter / name).is_file() for name in PROCESSOR_FILES)
    language = "AutoModelForImageTextToText" if seeing else "AutoModelForCausalLM"
    auto = getattr(transformers, _AUTO_CLASSES.get(task, language))
    if type(config) not in auto._model_mapping:  # a base model that brings its own code
        return str((config.architectures or [auto.__name__])[0])
    kinds = auto._model_mapping[type(config)]
    return str((kinds[0] if isinstance(kinds, tuple) else kinds).__name__)
