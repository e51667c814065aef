"""Encoders as ONNX: exported from torch, in int8 by ONNX Runtime, and computed in torch's place.

Dynamic quantisation scales a layer's input by its largest value. Were texts computed together, an
answer would depend on the texts beside it; so each is computed by itself, without padding, here and
in the server, and the two give the same numbers.
"""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sm_train.errors import UserError, shorten

FILE = Path("onnx") / "model_quantized.onnx"
"""Where optimum, transformers.js and sentence-transformers look for a quantised model."""
_OUTPUTS = {
    "ForSequenceClassification": ("logits",),
    "ForTokenClassification": ("logits",),
    "ForQuestionAnswering": ("start_logits", "end_logits"),
}
_HIDDEN = ("last_hidden_state",)
WEIGHTS = ["MatMul", "Gemm", "Gather"]
"""Operators whose weights are kept in int8: linear layers and embeddings."""
_EXAMPLE_TOKENS = 8


def output_names(architecture: str) -> tuple[str, ...]:
    """What a model of this class answers, by transformers' names; hidden states without a head."""
    matches = (names for suffix, names in _OUTPUTS.items() if architecture.endswith(suffix))
    return next(matches, _HIDDEN)


def export_int8(model: Any, tokenizer: Any, path: Path) -> None:
    """Write the model's graph with weights in int8, as `quantise` does it.

    Args:
        model: an encoder of transformers, in float32.
        tokenizer: names its inputs.
        path: the file.

    Raises:
        UserError: the model cannot be exported.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, _quiet():
        plain = Path(scratch) / "model.onnx"
        export(model, tokenizer, plain)
        quantise(plain, path)


def quantise(plain: Path, path: Path) -> None:
    """A graph in float32 with weights in int8, a scale for each row of a matrix.

    The weights take seven bits: processors without VNNI add two products in 16 bits, which eight
    would overflow, and the answers are to be the same on all of them.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        plain,
        path,
        op_types_to_quantize=WEIGHTS,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries tell of every node that they rewrite, and of packages that nobody needs."""
    loggers = [logging.getLogger(), logging.getLogger("torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def export(model: Any, tokenizer: Any, path: Path) -> None:
    """Write an encoder's graph as it is. Raises UserError where it cannot be exported."""
    import torch

    taken = inspect.signature(model.forward).parameters
    names = [name for name in tokenizer.model_input_names if name in taken]
    outputs = output_names(type(model).__name__)

    class Named(torch.nn.Module):  # type: ignore[misc]
        """The model with its inputs in order, and without what nobody reads."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *columns: Any) -> tuple[Any, ...]:
            answer = self.model(**dict(zip(names, columns, strict=True)), return_dict=True)
            return tuple(answer[name] for name in outputs)

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    # Each input its own: one tensor for several would make one input of them.
    examples = tuple(torch.ones((2, _EXAMPLE_TOKENS), dtype=torch.long) for _ in names)
    try:
        torch.onnx.export(
            Named().eval(),
            examples,
            str(path),
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes=((free,) * len(names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # of many kinds, with no common base
        raise UserError(
            f"{type(model).__name__} cannot be written as ONNX: {type(error).__name__}: "
            f"{shorten(str(error), 300)}",
            field="precision",
            value="int8",
            fix="use precision bfloat16",
        ) from error


def session(path: Path, threads: int) -> Any:
    """ONNX Runtime's session for a file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def as_module(path: Path, config: Any) -> Any:
    """A torch module that answers as a transformers model does, by an ONNX file."""
    import torch
    from transformers.utils import ModelOutput

    class OnnxModule(torch.nn.Module):  # type: ignore[misc]
        """Each text is computed by itself; the answers are padded as the texts were."""

        def __init__(self) -> None:
            super().__init__()
            self.config = config
            self.session = session(path, torch.get_num_threads())
            self.inputs = [each.name for each in self.session.get_inputs()]
            self.outputs = [each.name for each in self.session.get_outputs()]
            # A trainer asks a model's parameters for type and device.
            self.place = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

        def forward(self, **given: Any) -> Any:
            mask = given["attention_mask"].bool()
            rows = [self._answer(given, index, own) for index, own in enumerate(mask)]
            answers = {
                name: torch.stack(list(_padded(name, [row[place] for row in rows], mask)))
                for place, name in enumerate(self.outputs)
            }
            # Most methods compute the loss of all predictions at once, from the logits; what the
            # others would take from here is no loss.
            return ModelOutput({"loss": torch.full((), torch.nan), **answers})

        def _answer(self, given: dict[str, Any], index: int, own: Any) -> list[Any]:
            feed = {name: given[name][index][own][None].numpy() for name in self.inputs}
            return [torch.from_numpy(each[0]) for each in self.session.run(self.outputs, feed)]

    return OnnxModule().eval()


def _padded(name: str, rows: list[Any], mask: Any) -> Iterator[Any]:
    """The rows; where they have a value for each token, as wide as the mask."""
    for row, own in zip(rows, mask, strict=True):
        if name == "logits" and row.dim() == 1:
            yield row
            continue
        wide = row.new_zeros((len(own), *row.shape[1:]))
        wide[own] = row
        yield wide
