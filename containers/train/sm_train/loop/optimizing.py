"""What the method optimize does instead of training: scores, makes the other model, scores that."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.fit import evaluate_test
from sm_train.loop.held_out_kinds import score_by_rows
from sm_train.modelling import compressed, onnx
from sm_train.results import proof as proofs
from sm_train.results.asking import identity_of_test
from sm_train.results.export import EVAL_RESULTS, write_json
from sm_train.results.measuring import MOST_TEXTS, Plan, Text, measure, sizes
from sm_train.results.speculation import Speculation
from sm_train.results.staging import staged
from sm_train.settings.settings import Method

_CARD = "README.md"
_NOT_COPIED = (
    "*.safetensors", "*.bin", "*.index.json", _CARD, EVAL_RESULTS, "onnx", "adapter",
)  # fmt: skip
"""Weights, and what is told of them. Those in folders are of layers behind the encoder."""


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Attributes:
        method: that trained the model.
        precision: of the new one.
        metric: that decides; None takes the method's.
        max_drop: by how much it may fall.
        split: that both are scored on.
        rows: of it, how many.
        calibrated: by what rows the new one is made, in words; empty without.
        speculation: how vLLM guesses the new one's tokens ahead, if it does.
    """

    method: Method[Any]
    precision: str
    metric: str | None
    max_drop: float
    split: str
    rows: int
    calibrated: str = ""
    speculation: Speculation | None = None

    @property
    def sentence(self) -> str:
        """What is to be said of the new model, besides how its weights were made."""
        return self.calibrated + (self.speculation.sentence if self.speculation else "")


def optimize(job: Job, task: Task, trainer: Any, tokenizer: Any, test: Any) -> None:
    """Write the other artefact where it is as good.

    Args:
        job: of the optimization.
        task: what is to be done.
        trainer: holds the model, and scores it.
        tokenizer: the model's.
        test: the held-out rows, as the trainer wants them.

    Raises:
        UserError: it is not as good, or cannot be made; nothing is exported then.
    """
    from transformers.trainer_callback import PrinterCallback

    if task.calibrated:
        print_line(f"{task.calibrated}They are counted as channel train here.")
    trainer.remove_callback(PrinterCallback)
    score_by_rows(trainer, task.method)
    first = _Before.of(job, trainer, tokenizer, test)
    metric = proofs.deciding(task.method, task.metric, first.scores)
    job.stop.check("before the model was made anew")
    with staged(job.paths.model) as folder:
        _copy_description(first.source, folder)
        made = _maker(task)(trainer, tokenizer, first.source, folder)
        if task.speculation:  # before its size is measured: a draft lies in it, too
            task.speculation.write(folder)
        after = proofs.qualities(evaluate_test(trainer, test))
        job.stop.check("while the models were measured")
        outcome = _proof(task, metric, first, made, after, folder)
        for line in proofs.text_table(outcome.lines()):
            print_line(line)
        write_json(job.paths.output_data / "optimization.json", outcome.as_dict())
        outcome.require()
        _tell(job, task.method, outcome, first.source, folder)
    print_line(f"model written to {job.paths.model}")


@dataclass(frozen=True)
class _Before:
    """The model as it was given: where, its scores, and what its speed is measured with."""

    source: Path
    scores: dict[str, float]
    architecture: str
    texts: list[Text]
    dtype: str

    @classmethod
    def of(cls, job: Job, trainer: Any, tokenizer: Any, test: Any) -> _Before:
        model = transformer(trainer.model)
        return cls(
            source=Path(job.model_source),
            scores=proofs.qualities(evaluate_test(trainer, test)),
            architecture=type(model).__name__,
            texts=measured_texts(trainer, tokenizer, test),
            dtype=_name(model.dtype),
        )


def _proof(
    task: Task, metric: str, first: _Before, made: Made, after: dict[str, float], folder: Path
) -> proofs.Proof:
    import torch

    threads, before = torch.get_num_threads(), first.scores
    if metric != "loss" and math.isnan(after.get("loss", 0.0)):  # of a regression
        before, after = ({k: v for k, v in s.items() if k != "loss"} for s in (before, after))
    common = (first.architecture, first.texts, threads)
    plans = {
        "before": plan(first.source, *common, dtype=first.dtype),
        "after": plan(folder, *common, dtype=made.dtype, file=made.file),
    }
    speeds = measure(plans) if made.runs_here else sizes(plans)
    return proofs.Proof(
        precision=task.precision,
        how=f"{made.how} {task.sentence}".strip(),
        metric=metric,
        max_drop=task.max_drop,
        split=task.split,
        rows=task.rows,
        before={**speeds["before"], **before},
        after={**speeds["after"], **after},
        processor=proofs.processor(),
        threads=threads,
    )


@dataclass(frozen=True)
class Made:
    """A new model.

    Attributes:
        how: it was made, in words.
        file: of ONNX, if it has one.
        dtype: that it computes in.
        runs_here: whether its speed in this image tells of the one that it is served with.
    """

    how: str
    file: str
    dtype: str
    runs_here: bool = True


def _int8(trainer: Any, tokenizer: Any, source: Path, folder: Path) -> Made:
    del source
    encoder = transformer(trainer.model)
    onnx.export_int8(encoder, tokenizer, folder / onnx.FILE)
    _replace(trainer, onnx.as_module(folder / onnx.FILE, encoder.config))
    how = (
        "Weights in int8 by ONNX Runtime (dynamic quantisation, a scale for each output of a "
        f"layer), in `{onnx.FILE}`."
    )
    return Made(how, str(onnx.FILE), "float32")


def _bfloat16(trainer: Any, tokenizer: Any, source: Path, folder: Path) -> Made:
    del tokenizer
    import torch

    encoder = transformer(trainer.model).to(torch.bfloat16)
    encoder.save_pretrained(folder)
    described = json.loads((source / "config.json").read_text(encoding="utf-8"))
    described.pop("torch_dtype", None)
    text = json.dumps({**described, "dtype": "bfloat16"}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    return Made("Weights cast to bfloat16, as `config.json` says.", "", "bfloat16")


def _compressed(precision: str, trainer: Any, tokenizer: Any, source: Path, folder: Path) -> Made:
    """A language model in fewer bits; what is then scored is what was written."""
    del source
    model = trainer.model
    # Rows that lie behind one another in one sequence are told apart by the attention alone.
    device, attention = model.device, model.config._attn_implementation
    print_line(
        f"making it {precision} by llm-compressor; LLM_COMPRESSOR_LOG_LEVEL=INFO shows each layer"
    )
    how = compressed.describe(model, precision)
    compressed.compress(model, tokenizer, precision, trainer.train_dataset, folder)
    trainer.model = trainer.model_wrapped = model = None
    trainer.accelerator.free_memory()  # the next one is as large
    _replace(trainer, compressed.reload(folder, device, attention))
    return Made(how, "", "bfloat16", runs_here=False)


def _maker(task: Task) -> Callable[[Any, Any, Path, Path], Made]:
    if task.method.pipeline_tag == "text-generation" and task.precision in compressed.SCHEMES:
        return partial(_compressed, task.precision)
    return _MAKERS[task.precision]


_MAKERS: dict[str, Callable[[Any, Any, Path, Path], Made]] = {
    "int8": _int8,
    "bfloat16": _bfloat16,
}
"""Each writes the weights into the folder, and lets the trainer score them."""


def transformer(model: Any) -> Any:
    """The model of transformers in a trainer's: sentence-transformers has it as its first part."""
    return model[0].model if hasattr(model, "encode") else model


def _replace(trainer: Any, module: Any) -> None:
    if hasattr(trainer.model, "encode"):
        trainer.model[0].model = module
    else:
        trainer.model = trainer.model_wrapped = module


def measured_texts(trainer: Any, tokenizer: Any, test: Any) -> list[Text]:
    """Some of the held-out texts, as the model reads them."""
    if "input_ids" in test.column_names:
        rows = test.select(range(min(MOST_TEXTS, len(test))))
        names = [n for n in ("input_ids", "token_type_ids") if n in rows.column_names]
        return [{name: list(row[name]) for name in names} for row in rows]
    column = next(name for name in test.column_names if isinstance(test[0][name], str))
    limit = trainer.model.max_seq_length
    encoded = tokenizer(test[:MOST_TEXTS][column], truncation=True, max_length=limit)
    names = [name for name in encoded if name != "attention_mask"]
    return [
        {name: encoded[name][index] for name in names} for index in range(len(encoded["input_ids"]))
    ]


def plan(
    folder: Path, architecture: str, texts: list[Text], threads: int, *, dtype: str, file: str = ""
) -> Plan:
    """How a model is measured."""
    return Plan(str(folder), architecture, file, dtype, texts, threads)


def _copy_description(source: Path, folder: Path) -> None:
    """Everything but the weights: config, tokenizer, pooling and what lies behind it."""
    unwanted = shutil.ignore_patterns(*_NOT_COPIED)
    top = str(source)
    shutil.copytree(
        source,
        folder,
        ignore=lambda place, names: unwanted(place, names) if place == top else set(),
        dirs_exist_ok=True,
    )


def _tell(job: Job, method: Method[Any], outcome: proofs.Proof, source: Path, folder: Path) -> None:
    """What the artefact says of itself: its scores, both models' figures, the card."""
    identity = identity_of_test(job.paths, job.data)
    results = proofs.as_results(outcome, identity)
    write_json(folder / EVAL_RESULTS, {**results, "optimization": outcome.as_dict()})
    former = source / _CARD
    text = former.read_text(encoding="utf-8") if former.is_file() else ""
    card = proofs.card(outcome, method, job.paths.model.name, text)
    (folder / _CARD).write_text(card, encoding="utf-8")


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
