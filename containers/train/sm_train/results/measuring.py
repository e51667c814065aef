"""Size, memory and speed of models, each alone in a process of its own, measured in turns.

    python -m sm_train.results.measuring PLAN

is such a process: it loads the model, says what memory that took, and measures once for each line
that it reads.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sm_train.results.reloading import environment_of_one

ROUNDS = 3
MOST_TEXTS = 200
"""Texts that are measured by."""
BATCH = 16
_WARM_UP = 8

Text = dict[str, list[int]]
"""A tokenised text: the columns that the model reads."""


@dataclass(frozen=True)
class Plan:
    """What such a process needs to know; all of it can be written as JSON.

    Attributes:
        folder: of the model.
        architecture: name of its class in transformers.
        onnx: file within the folder that holds it; empty where transformers loads it.
        dtype: type that transformers computes in.
        texts: what is measured by.
        threads: of the processor.
    """

    folder: str
    architecture: str
    onnx: str
    dtype: str
    texts: list[Text]
    threads: int


def measure(plans: Mapping[str, Plan]) -> dict[str, dict[str, float]]:
    """Of each model bytes, memory, latency and throughput; medians of the rounds.

    Raises RuntimeError where a process ends early.
    """
    by_model: dict[str, list[dict[str, float]]] = {name: [] for name in plans}
    with ExitStack() as stack:
        running = {name: stack.enter_context(_running(plan)) for name, plan in plans.items()}
        memory = {name: ask() for name, ask in running.items()}
        for turn in range(ROUNDS):
            names = list(plans) if turn % 2 == 0 else list(plans)[::-1]
            for name in names:
                by_model[name].append(running[name]())
    return {
        name: {
            "bytes": size(Path(plans[name].folder)),
            **memory[name],
            **{key: statistics.median(each[key] for each in rounds) for key in rounds[0]},
        }
        for name, rounds in by_model.items()
    }


def sizes(plans: Mapping[str, Plan]) -> dict[str, dict[str, float]]:
    """Of each model the bytes alone: for those that another program serves, on other hardware."""
    return {name: {"bytes": size(Path(plan.folder))} for name, plan in plans.items()}


def size(folder: Path) -> int:
    """Bytes of a model directory without what only tells of it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files if path.suffix != ".md")


@contextmanager
def _running(plan: Plan) -> Iterator[Callable[[], dict[str, float]]]:
    """A process that has the model: each call gives its next line."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "sm_train.results.measuring", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment_of_one(OMP_NUM_THREADS=str(plan.threads)),
            text=True,
        )

        def ask() -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write("\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                errors.seek(0)
                raise RuntimeError(f"measuring {plan.folder} failed: {errors.read()[-2000:]}")
            told: dict[str, float] = json.loads(line)
            return told

        try:
            yield ask
        finally:
            process.kill()
            process.communicate()


def main() -> None:
    """Serve the plan whose file is the only argument, until standard input ends."""
    from sm_train.log import quiet_libraries

    quiet_libraries()
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries may print
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    steps = _steps(plan)
    for _ in sys.stdin:
        answers.write(json.dumps(next(steps)) + "\n")
        answers.flush()


def _steps(plan: Plan) -> Iterator[dict[str, float]]:
    """First the memory, then the speed as often as wanted."""
    import torch
    import transformers

    torch.set_num_threads(plan.threads)
    getattr(transformers, plan.architecture)  # its code: libraries are no part of a model's memory
    if plan.onnx:
        importlib.import_module("onnxruntime")
    before = _memory()
    answer = _onnx(plan) if plan.onnx else _torch(plan)
    for text in plan.texts[:_WARM_UP]:
        answer([text])
    answer(max(_batches(plan), key=len))
    yield {"memory_bytes": float(_memory() - before)}
    while True:
        yield _speed(answer, plan)


def _speed(answer: Callable[[Sequence[Text]], None], plan: Plan) -> dict[str, float]:
    """Milliseconds of single texts, and texts a second where many are at hand."""
    seconds = sorted(_seconds(answer, [text]) for text in plan.texts)
    whole = sum(_seconds(answer, batch) for batch in _batches(plan))
    return {
        "latency_p50_ms": 1000 * statistics.median(seconds),
        "latency_p99_ms": 1000 * seconds[int(0.99 * (len(seconds) - 1))],
        "texts_per_second": len(plan.texts) / whole,
    }


def _seconds(answer: Callable[[Sequence[Text]], None], texts: Sequence[Text]) -> float:
    began = time.perf_counter()
    answer(texts)
    return time.perf_counter() - began


def _batches(plan: Plan) -> list[list[Text]]:
    """Texts of like length beside each other."""
    ordered = sorted(plan.texts, key=lambda text: len(text["input_ids"]))
    return [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]


def _torch(plan: Plan) -> Callable[[Sequence[Text]], None]:
    import torch
    import transformers

    kind = getattr(transformers, plan.architecture)
    model = kind.from_pretrained(plan.folder, dtype=getattr(torch, plan.dtype)).eval()

    def answer(texts: Sequence[Text]) -> None:
        width = max(len(text["input_ids"]) for text in texts)
        columns = {
            name: torch.tensor([text[name] + [0] * (width - len(text[name])) for text in texts])
            for name in texts[0]
        }
        lengths = torch.tensor([len(text["input_ids"]) for text in texts])
        mask = (torch.arange(width)[None] < lengths[:, None]).long()
        with torch.inference_mode():
            model(**columns, attention_mask=mask)

    return answer


def _onnx(plan: Plan) -> Callable[[Sequence[Text]], None]:
    import numpy

    from sm_train.modelling.onnx import session

    made = session(Path(plan.folder) / plan.onnx, plan.threads)
    names = [each.name for each in made.get_inputs()]

    def answer(texts: Sequence[Text]) -> None:
        for text in texts:
            columns = {**text, "attention_mask": [1] * len(text["input_ids"])}
            made.run(None, {name: numpy.array([columns[name]]) for name in names})

    return answer


def _memory() -> int:
    """Bytes of this process, shared pages by their share (PSS); 0 where the kernel does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    shares = (line.split() for line in lines if line.startswith("Pss:"))
    return next((int(kib) * 1024 for _, kib, *_ in shares), 0)


if __name__ == "__main__":
    main()
