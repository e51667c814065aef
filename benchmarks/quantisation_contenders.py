"""What benchmarks/quantisation_libraries.py compares, each alone in a process of its own.

    python benchmarks/quantisation_contenders.py NAME DIRECTORY     (plan.json lies in it)

Each makes its model, says how far its answers are from others' by giving them, and answers all
texts once for each line that it reads. Where a library computes a text alone as fast, texts are
computed alone, as many at a time as there are threads; torch's models compute a batch at a time on
all of them, without padding, as our server does.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Answer = Callable[[], Any]
"""The logits of all texts: a row for each."""


@dataclass(frozen=True)
class Plan:
    """What a contender needs to know; all of it can be written as JSON.

    Attributes:
        model: directory of the model in float32.
        plain: the same as ONNX.
        texts: token ids of what is measured.
        calibrating: token ids of what ranges are taken from.
        threads: of the processor.
        batch: texts that torch computes at a time.
    """

    model: str
    plain: str
    texts: list[list[int]]
    calibrating: list[list[int]]
    threads: int
    batch: int


@dataclass(frozen=True)
class Made:
    """A model that is ready.

    Attributes:
        answer: to all texts.
        size: bytes of what is saved.
    """

    answer: Answer
    size: int


Make = Callable[[Plan, Path], Made]


def feed(ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """A text alone, by the names of a BERT's inputs."""
    import numpy

    row = numpy.array([ids], dtype=numpy.int64)
    known = {
        "input_ids": row,
        "attention_mask": numpy.ones_like(row),
        "token_type_ids": numpy.zeros_like(row),
    }
    return {name: known[name] for name in names}


def loaded(plan: Plan) -> Any:
    """The model of transformers, in float32."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(plan.threads)
    return AutoModelForSequenceClassification.from_pretrained(plan.model).eval()


def saved_bytes(model: Any) -> int:
    """Of its weights."""
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def columns(texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A padded batch for torch."""
    import torch

    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    return {"input_ids": ids, "attention_mask": (torch.arange(width)[None] < lengths[:, None]) * 1}


def batched(model: Any, plan: Plan, order: Sequence[int]) -> Answer:
    """Batches of texts in this order; rows come back in the texts' own."""
    import torch

    parts = [order[start : start + plan.batch] for start in range(0, len(order), plan.batch)]
    batches = [columns([plan.texts[index] for index in part]) for part in parts]

    def answer() -> Any:
        with torch.inference_mode():
            rows = torch.cat([model(**batch).logits for batch in batches])
        placed = torch.empty_like(rows)
        placed[torch.tensor(order)] = rows
        return placed.tolist()

    return answer


def unpadded(plan: Plan, folder: Path, change: Callable[[Any], None] | None = None) -> Made:
    """torch as our server runs it."""
    del folder
    from sm_serve.engines.encoders.unpadding import remove_padding

    model = loaded(plan)
    if not remove_padding(model):  # tried in float32: rounded, two ways to compute differ too much
        raise SystemExit("the model is not computed without padding")
    if change:
        change(model)
    return Made(batched(model, plan, range(len(plan.texts))), saved_bytes(model))


def int8_by_torchao(model: Any) -> None:
    """Linear layers in int8; their inputs too, with a scale for each token."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())


def compiled_torchao(plan: Plan, folder: Path) -> Made:
    """The same by torch.compile, which wants rectangles: texts of like length beside each other."""
    del folder
    import torch

    model = loaded(plan)
    int8_by_torchao(model)
    order = sorted(range(len(plan.texts)), key=lambda index: len(plan.texts[index]))
    return Made(batched(torch.compile(model, dynamic=True), plan, order), saved_bytes(model))


def onnxruntime(plan: Plan, folder: Path, make: Callable[[Plan, Path], None] | None = None) -> Made:
    """Each text alone, on one thread, several at a time: as our server runs an ONNX file."""
    from onnxruntime import InferenceSession, SessionOptions

    path = Path(plan.plain)
    if make:
        path = folder / "model.onnx"
        if not path.exists():
            make(plan, path)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    feeds = [feed(text, names) for text in plan.texts]
    pool = ThreadPoolExecutor(plan.threads)

    def answer() -> Any:
        return list(pool.map(lambda each: session.run(["logits"], each)[0][0].tolist(), feeds))

    return Made(answer, path.stat().st_size)


def ours(plan: Plan, path: Path) -> None:
    """As `sm-launch optimize` makes it."""
    from sm_train.modelling.onnx import quantise

    quantise(Path(plan.plain), path)


def static(plan: Plan, path: Path, method: str, outputs: bool = False) -> None:
    """QDQ with ranges of activations from the calibrating texts; weights as ours.

    With `outputs` the results of layers are int8 as well, which is the library's default; without,
    only what goes into them is, which is nearer to float32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from sm_train.modelling.onnx import WEIGHTS

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(plan.plain, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        Reader(plan, alike=method != "MinMax"),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=WEIGHTS,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, method),
        extra_options={
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": [] if outputs else WEIGHTS,
        },
    )


class Reader:
    """The calibrating texts, as onnxruntime.quantization.CalibrationDataReader has them.

    `alike`: cut to one length, the shorter ones left out; the library's histograms take no others.
    """

    def __init__(self, plan: Plan, *, alike: bool) -> None:
        from onnxruntime import InferenceSession

        session = InferenceSession(plan.plain, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        texts = plan.calibrating
        if alike:
            width = sorted(map(len, texts))[len(texts) // 2]
            texts = [[*text[: width - 1], text[-1]] for text in texts if len(text) >= width]
        self._left = iter([feed(text, names) for text in texts])

    def get_next(self) -> dict[str, Any] | None:
        """The next text; None behind the last."""
        return next(self._left, None)


def openvino(plan: Plan, folder: Path, *, int8: bool = False) -> Made:
    """As OpenVINO chooses for throughput, or in int8 by NNCF's post-training quantisation."""
    import openvino as ov

    core, path = ov.Core(), folder / "model.xml"
    model = core.read_model(path if path.exists() else plan.plain)
    names = [each.get_any_name() for each in model.inputs]
    if int8 and not path.exists():
        import nncf

        texts = nncf.Dataset([feed(text, names) for text in plan.calibrating])
        model = nncf.quantize(
            model,
            texts,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(plan.calibrating),
        )
    if not path.exists():
        ov.save_model(model, path, compress_to_fp16=False)
    ready = core.compile_model(
        path,
        "CPU",
        {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": plan.threads},
    )
    queue = ov.AsyncInferQueue(ready, plan.threads)
    feeds = [feed(text, names) for text in plan.texts]
    rows: list[Any] = [None] * len(feeds)

    def keep(request: Any, index: int) -> None:
        rows[index] = request.get_output_tensor(0).data[0].tolist()

    def answer() -> Any:
        for index, each in enumerate(feeds):
            queue.start_async(each, index)
        queue.wait_all()
        return rows

    queue.set_callback(keep)
    return Made(answer, sum(each.stat().st_size for each in folder.glob("model.*")))


CONTENDERS: dict[str, tuple[str, Make]] = {
    "float32": ("torch", unpadded),
    "onnxruntime-float32": ("onnxruntime", onnxruntime),
    "onnxruntime-dynamic": ("onnxruntime", partial(onnxruntime, make=ours)),
    **{
        f"onnxruntime-static-{method.lower()}": (
            "onnxruntime",
            partial(onnxruntime, make=partial(static, method=method)),
        )
        for method in ("MinMax", "Entropy", "Percentile")
    },
    "onnxruntime-static-outputs": (
        "onnxruntime",
        partial(onnxruntime, make=partial(static, method="MinMax", outputs=True)),
    ),
    "openvino": ("openvino", openvino),
    "openvino-int8": ("openvino", partial(openvino, int8=True)),
    "torchao": ("torchao", partial(unpadded, change=int8_by_torchao)),
    "torchao-compiled": ("torchao", compiled_torchao),
}
"""The library that serves each, and how it is made."""


def installed_mb(package: str) -> float:
    """Megabytes of an installed package, without what it needs besides."""
    files = importlib.metadata.distribution(package).files or []
    paths = (Path(str(each.locate())) for each in files)
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6, 1)


def main() -> None:
    """Make the contender, then answer a line by a line until standard input ends."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    plan = Plan(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    package, make = CONTENDERS[name]
    sys.stdin.readline()
    began = time.perf_counter()
    made = make(plan, folder)
    logits = made.answer()
    told = {
        "logits": logits,
        "library": f"{package} {importlib.metadata.version(package)}",
        "library_mb": installed_mb(package),
        "model_mb": round(made.size / 1e6, 1),
        "made_s": round(time.perf_counter() - began, 1),
    }
    made.answer()  # again: what was compiled or laid out at the first time is no part of the rounds
    print(json.dumps(told), file=answers, flush=True)
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        made.answer()
        took = {
            "seconds": time.perf_counter() - began,
            "processor_seconds": time.process_time() - used,
        }
        print(json.dumps(took), file=answers, flush=True)


if __name__ == "__main__":
    main()
