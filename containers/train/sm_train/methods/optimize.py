"""From a trained artefact another one: smaller, faster, and as good on rows that are held out.

The rows are read and scored by the method that trained the model: its trainer is made as for
training, and instead of training the model is scored, made anew, and scored again.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sm_train.contract import Paths, read_cluster
from sm_train.data.formats import preference_row
from sm_train.data.splits import setting_values, split_files
from sm_train.errors import UserError
from sm_train.methods import METHODS, load_method
from sm_train.methods.class_labels import MULTI_LABEL, REGRESSION
from sm_train.modelling.base_model import ADAPTER_CONFIG, is_encoder, read_model_config
from sm_train.modelling.compressed import CALIBRATED, MOST_ROWS
from sm_train.results.speculation import DRAFT, Speculation, draft_for
from sm_train.settings.settings import Method, Training

if TYPE_CHECKING:
    from sm_train.job import Job
    from sm_train.rows import Data, Row
    from sm_train.settings.settings import Config

_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "sft",
    "LMHeadModel": "sft",
    "Model": "embedding",
}
"""Ends of the names of transformers' classes, and the method that trains such a model."""
Precision = Literal["int8", "bfloat16", "fp8", "int4"]
_TAKES: dict[str, tuple[Precision, ...]] = {
    "a language model": ("bfloat16", "fp8", "int8", "int4"),
    "an encoder": ("bfloat16", "int8"),
    "a decoder with a head": ("bfloat16",),
}
"""What each kind of model can be made into."""
_SHARED = (
    "method", "config", "columns", "dataset_columns", "max_rejected_share", "model_name_or_path",
    "model_revision", "per_device_eval_batch_size",
)  # fmt: skip


@dataclass(frozen=True)
class OptimizeArguments:
    """The method's own hyperparameters."""

    precision: Precision = field(
        default="int8",
        metadata={
            "help": "Type of the weights: int8 (encoders by ONNX Runtime, language models by GPTQ "
            "with activations in int8 as well), bfloat16; of language models fp8 or int4, too."
        },
    )
    speculation: Literal["ngram", "draft"] | None = field(
        default=None,
        metadata={
            "help": "Let vLLM guess a language model's next tokens: ngram, by what came before in "
            "the text, or draft, by the smaller model of the channel draft."
        },
    )
    speculative_tokens: int = field(
        default=5, metadata={"help": "How many tokens are guessed at a time, with speculation."}
    )
    speculative_lookup: int = field(
        default=4, metadata={"help": "With ngram: how many tokens are looked for, at most."}
    )
    max_drop: float = field(
        default=0.005,
        metadata={"help": "By how much the metric may fall on held-out rows; the job fails else."},
    )
    metric: str | None = field(
        default=None,
        metadata={
            "help": "What max_drop holds: any metric of the test rows. Default: accuracy, of the "
            "other tasks f1, pearson, and of embeddings what their rows are scored by first."
        },
    )


def check_arguments(config: Config[OptimizeArguments]) -> None:
    """A share between nothing and all."""
    if not 0 <= config.own.max_drop <= 1:
        raise UserError(
            "is no share", field="max_drop", value=config.own.max_drop, fix="give 0 to 1"
        )

    for name in ("speculative_tokens", "speculative_lookup"):
        if (value := getattr(config.own, name)) < 1:
            raise UserError("is too few", field=name, value=value, fix="give 1 or more")


def check_files(config: Config[OptimizeArguments], paths: Paths) -> None:
    """One host does it; there must be rows to prove with, and the draft where one guesses."""
    if (config.own.speculation == "draft") != (paths.channel(DRAFT) is not None):
        raise UserError(
            "is draft and a channel named draft go together",
            field="speculation",
            value=config.own.speculation,
            fix="give the smaller model as the channel draft, or leave both out",
        )
    hosts = read_cluster(paths).hosts
    if len(hosts) > 1:
        raise UserError(
            "optimize runs on one host",
            field="InstanceCount",
            value=len(hosts),
            fix="set it to 1",
        )
    if not {"test", "validation"} & split_files(paths, setting_values(config)).keys():
        raise UserError(
            "is missing, and so is validation: nothing could prove that the model is as good",
            field="channel test",
            fix="give the job rows that the model has not learnt as a channel named test",
        )


def reads_as(config: Config[OptimizeArguments], source: str) -> Config[Any]:
    """The config of the method that trains such a model, with what the artefact says of itself.

    Raises UserError for a model that cannot be optimized so.
    """
    task = task_of(source)
    check_precision(config.own, source, task)
    method = load_method(task)
    speaks = task == "sft"
    # Scored in the types that the two models have. llm-compressor follows torch's code, no kernels;
    # an encoder is written as ONNX from float32.
    own_types = {"bf16": False, "fp16": False, **({"use_liger_kernel": False} if speaks else {})}
    method = replace(method, trains=False, check_data=lambda _config, _data: None)
    return replace(
        config,
        method=_of_preferences(method) if speaks else method,
        own=_arguments(config, source, task, method.arguments),
        model=replace(config.model, dtype="auto") if speaks else config.model,
        training=cast(Training, {**method.defaults, **own_types, **config.training}),
    )


def _of_preferences(method: Method[Any]) -> Method[Any]:
    """The method sft, to which the better answer of a preference pair is the one to give.

    A model of DPO, ORPO or CPO is measured on its own held-out rows so.
    """

    def clean_row(row: dict[str, Any], config: Config[Any]) -> dict[str, Any]:
        if row.get("chosen") is None and row.get("preferred_output") is None:
            return method.clean_row(row, config)
        pair = preference_row(row, config)
        companions = {k: v for k, v in pair.items() if k not in ("prompt", "chosen", "rejected")}
        if "prompt" in pair:
            return {"prompt": pair["prompt"], "completion": pair["chosen"], **companions}
        chat = isinstance(pair["chosen"], list)
        field = "messages" if chat else str(config.training.get("dataset_text_field", "text"))
        return {field: pair["chosen"], **companions}

    def required_columns(config: Config[Any]) -> list[tuple[str, ...]]:
        (columns,) = method.required_columns(config)
        return [(*columns, "chosen", "preferred_output")]

    return replace(method, clean_row=clean_row, required_columns=required_columns)


def task_of(source: str) -> str:
    """The method that trains such a model. Raises UserError for a class that no method trains."""
    if (Path(source) / ADAPTER_CONFIG).is_file() and not read_model_config(source):
        raise UserError(
            "is an adapter without its base model",
            field="channel model",
            value=source,
            fix="train with export: merged, or both, and give that artefact",
        )
    if (Path(source) / "modules.json").is_file():
        return "embedding"
    architectures = [str(name) for name in read_model_config(source).get("architectures") or ()]
    for architecture in architectures:
        for suffix, method in _TASKS.items():
            if architecture.endswith(suffix):
                return method
    raise UserError(
        f"is a model of {' and '.join(architectures) or 'no class that config.json names'}",
        field="channel model",
        value=source,
        fix=f"give the directory of a model whose class ends in {', '.join(_TASKS)}",
    )


def check_precision(own: OptimizeArguments, source: str, task: str) -> None:
    """Refuse what a model of this kind cannot be, or is already."""
    described, precision = read_model_config(source), own.precision
    kind = _kind_of(source, task)
    if own.speculation and task != "sft":
        raise UserError(
            f"is for language models, and the model is {kind} ({described.get('model_type')})",
            field="speculation",
            value=own.speculation,
            fix="leave it out",
        )
    if precision not in _TAKES[kind]:
        raise UserError(
            f"is not for {kind} ({described.get('model_type')})",
            field="precision",
            value=precision,
            fix=f"use {' or '.join(_TAKES[kind])}",
        )
    stored = described.get("dtype", described.get("torch_dtype"))
    same = (precision, stored) == ("bfloat16", "bfloat16") and not own.speculation
    if described.get("quantization_config") or same:
        raise UserError(
            f"is what the model has already, or more ({stored}, quantization_config "
            f"{described.get('quantization_config')})",
            field="precision",
            value=precision,
            fix="give the artefact of its training",
        )


def _kind_of(source: str, task: str) -> str:
    """The key of _TAKES that a model is."""
    if task == "sft":
        return "a language model"
    return "an encoder" if is_encoder(source) else "a decoder with a head"


def _arguments(config: Config[OptimizeArguments], source: str, task: str, kind: type[Any]) -> Any:
    """The trained method's own hyperparameters, as far as config.json tells them."""
    described = read_model_config(source)
    told = (described.get("task_specific_params") or {}).get(task) or {}
    columns = {
        name: config.job.columns.get(column, column)
        for name, column in (told.get("columns") or {}).items()
    }
    names = {int(index): str(name) for index, name in (described.get("id2label") or {}).items()}
    problem = described.get("problem_type")
    alone = len(names) == 1 and problem != MULTI_LABEL
    measure = task == "text-classification" and (problem == REGRESSION or alone)
    values = {
        "text_column": columns.get("text"),
        "text_pair_column": columns.get("text_pair"),
        "label_column": columns.get("label"),
        "tokens_column": columns.get("tokens"),
        "tags_column": columns.get("label"),
        "labels": None if measure else [names[index] for index in sorted(names)] or None,
        "problem_type": REGRESSION if measure else problem,
        "threshold": told.get("threshold"),
        "max_length": told.get("max_length", told.get("max_seq_len")),
        "doc_stride": told.get("doc_stride"),
        "max_answer_length": told.get("max_answer_len"),
    }
    taken = {item.name for item in fields(kind)}
    return kind(**{k: v for k, v in values.items() if k in taken and v is not None})


def train(job: Job) -> None:
    """Score the model, make the other one, score that, and write it where it is as good."""
    from sm_train.loop.optimizing import Task, optimize

    own: OptimizeArguments = job.config.own
    inner = reads_as(job.config, job.model_source)
    split = "test" if job.data.test else "validation"
    calibrating, held_out, told = shares(job.data, split, _calibrates(own, inner))
    # A trainer wants rows to train on, whatever is then done with them.
    data = replace(job.data, train=calibrating, validation=None, test=held_out)
    task = Task(
        method=inner.method,
        precision=own.precision,
        metric=own.metric,
        max_drop=own.max_drop,
        split=split,
        rows=len(held_out),
        calibrated=told,
        speculation=_speculation(job),
    )
    scored = replace(job, config=inner, data=data, instead=partial(optimize, job, task))
    importlib.import_module(METHODS[inner.method.name]).train(scored)


def _speculation(job: Job) -> Speculation | None:
    own: OptimizeArguments = job.config.own
    if own.speculation is None:
        return None
    draft = draft_for(job.paths, job.model_source) if own.speculation == "draft" else ""
    return Speculation(own.speculation, own.speculative_tokens, own.speculative_lookup, draft)


def _calibrates(own: OptimizeArguments, inner: Config[Any]) -> bool:
    return inner.method.name == "sft" and own.precision in CALIBRATED


def shares(data: Data, split: str, calibrates: bool) -> tuple[list[Row], list[Row], str]:
    """The rows that are calibrated by, those that both models are scored on, and this in words.

    No row does both: where there is one channel, half of it calibrates.

    Raises UserError where a channel has too few rows for that.
    """
    held_out = data.split(split) or []
    if not calibrates:
        return held_out[:1], held_out, ""
    if split == "test" and data.validation:
        calibrating = data.validation[:MOST_ROWS]
        return calibrating, held_out, f"Calibrated on {len(calibrating)} rows of validation. "
    count = min(len(held_out) // 2, MOST_ROWS)
    if not count:
        raise UserError(
            "has one row, and rows to calibrate by are wanted besides",
            field=f"channel {split}",
            fix="give a channel validation and a channel test, or use precision fp8",
        )
    told = f"Calibrated on the first {count} rows of {split}, which are not scored. "
    return held_out[:count], held_out[count:], told


METHOD = Method(
    name="optimize",
    training_config="transformers:TrainingArguments",
    arguments=OptimizeArguments,
    clean_row=lambda row, _config: row,
    tokens=lambda _row, _config, _tokenizer: [],
    check_arguments=check_arguments,
    check_files=check_files,
    trains=False,
    shared=_SHARED,
    reads_as=reads_as,
)
