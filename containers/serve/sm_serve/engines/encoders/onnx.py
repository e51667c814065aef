"""Encoders that an artefact holds as ONNX, computed on the CPU by ONNX Runtime.

Weights in int8 scale a layer's input by its largest value: computed together, an answer would
depend on the texts beside it. So each text is computed by itself, several at a time, and nothing is
computed on padding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.engines.processors import available_cpus
from sm_serve.errors import StartupError
from sm_serve.protocol import Task

logger = logging.getLogger(__name__)

ANSWERS: Mapping[Task, tuple[str, ...]] = {
    Task.TEXT_CLASSIFICATION: ("logits",),
    Task.TOKEN_CLASSIFICATION: ("logits",),
    Task.QUESTION_ANSWERING: ("start_logits", "end_logits"),
    Task.EMBEDDING: ("last_hidden_state",),
}
"""What a file must answer with, by the names that optimum gives its outputs."""


class OnnxModel:
    """In the place of a model of transformers: the same inputs, and the outputs that engines read.

    Args:
        path: the ONNX file.
        config: the model's, of transformers.
        task: what it is served for.
        threads: texts that are computed at a time.

    Raises:
        StartupError: ONNX Runtime cannot read the file, or it answers with something else.
    """

    def __init__(self, path: Path, config: Any, task: Task, threads: int) -> None:
        import onnxruntime
        import torch

        self.config = config
        self.device, self.dtype = torch.device("cpu"), torch.float32
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of the library's many classes
            raise StartupError(f"{path} cannot be read by ONNX Runtime: {error}") from error
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = ANSWERS[task]
        known = {each.name for each in self._session.get_outputs()}
        if not known.issuperset(self._outputs):
            raise StartupError(
                f"{path} answers with {', '.join(sorted(known))}, and {task} needs"
                f" {', '.join(self._outputs)}: export the model for this task"
            )
        self._pool = ThreadPoolExecutor(threads, "sm-serve-onnx")

    def get_input_embeddings(self) -> Any:
        """As a model of transformers, as far as engines look at it."""
        return SimpleNamespace(num_embeddings=self.config.vocab_size)

    def __call__(self, **tensors: Any) -> Any:
        """The outputs of a padded batch, padded like it."""
        import torch

        columns = {name: tensor.numpy() for name, tensor in tensors.items()}
        mask = columns["attention_mask"].astype(bool)

        def answer(index: int) -> list[Any]:
            feed = {name: columns[name][index, mask[index]][None] for name in self._inputs}
            return list(self._session.run(self._outputs, feed))

        rows = list(self._pool.map(answer, range(len(mask))))
        answered = {
            name: torch.from_numpy(_joined(name, [row[place][0] for row in rows], mask))
            for place, name in enumerate(self._outputs)
        }
        return SimpleNamespace(**answered)


def _joined(name: str, rows: list[Any], mask: Any) -> Any:
    """Rows beside each other; where they have a value for each token, padded as their texts."""
    import numpy

    if name == "logits" and rows[0].ndim == 1:
        return numpy.stack(rows)
    wide = numpy.zeros((*mask.shape, *rows[0].shape[1:]), rows[0].dtype)
    for row, own, into in zip(rows, mask, wide, strict=True):
        into[own] = row
    return wide


def load(artefact: Artefact, settings: Settings) -> OnnxModel:
    """The model of an artefact whose weights are an ONNX file.

    Raises StartupError for what is not served so.
    """
    path = artefact.onnx
    assert path is not None
    if artefact.task not in ANSWERS:
        raise StartupError(
            f"{path}: as ONNX models of {', '.join(ANSWERS)} are served, not of {artefact.task}:"
            " deploy the artefact that it was made from"
        )
    if artefact.is_adapter:
        raise StartupError(
            f"{artefact.path} is an adapter, and its base model is an ONNX file ({path}), which"
            " takes none: merge it into the artefact that the file was made from"
        )
    if settings.device not in ("", "cpu"):
        raise StartupError(
            f"SM_SERVE_DEVICE={settings.device!r}: {path} is for CPUs; deploy the artefact that it"
            " was made from, or unset it"
        )
    if settings.dtype != "auto":
        raise StartupError(
            f"SM_SERVE_DTYPE={settings.dtype!r}: {path} computes in its own types; deploy the"
            " artefact that it was made from, or unset it"
        )
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(artefact.base, local_files_only=True)
    threads = available_cpus()
    logger.info("loading %s by ONNX Runtime, %d texts at a time", path, threads)
    return OnnxModel(path, config, artefact.task, threads)
