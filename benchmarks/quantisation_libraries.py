"""An encoder in int8 by each library that could make and serve it, beside float32, in turn.

    python benchmarks/quantisation_libraries.py [--environment DIR] [--only NAME ...]

The model is `minilm` of benchmarks/serving_models.py, the texts are those of the serving benchmark.
Each contender (quantisation_contenders.py says what it is) makes its model and then waits in a
process of its own, on the same number of threads; in each round (see harness.py) it answers all
texts once. `float32` is what our server computes by default. What the contenders need is installed
into an environment of the benchmark's own (kept if named), beside this one. Rates are of time that
passes, and of processor time (`by_processor`), which other programs disturb less.

Static contenders are calibrated on texts that are not measured. `largest_difference` is of a logit
to float32's; `difference_share` is that in shares of the largest float32 logit; `same_labels` is
the share of texts whose largest logit is of the same label. The head is untrained, so that its
logits lie near to each other: labels change sooner than a trained model's do. `model_mb` is what
the library saves, `library_mb` what it has installed, and `aarch64` whether pip has a wheel of it
for such machines.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import begin, environment, in_turn, parser, ratio, spread, write
from quantisation_contenders import CONTENDERS, Plan
from serving_targets import make_requests

MOST_SECONDS = 300
"""What a contender may take to make its model and answer all texts, or to answer them again."""
REFERENCE, OURS = "float32", "onnxruntime-dynamic"
PACKAGES = ("openvino", "nncf", "torchao")
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp",
                "i8mm", "bf16")  # fmt: skip
"""Of a processor, what int8 and bfloat16 are fast by; as /proc/cpuinfo calls them."""


class ContenderError(Exception):
    """A library that does not run here; the message is its own."""


def make_plan(args: argparse.Namespace, work: Path) -> Plan:
    """The model as transformers and as ONNX in float32, and the texts as token ids."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sm_train.modelling.onnx import export

    model, plain = work / "model", work / "plain.onnx"
    script = str(Path(__file__).with_name("serving_models.py"))
    if not plain.exists():
        subprocess.run([sys.executable, script, "minilm", model], check=True)
    tokenizer = AutoTokenizer.from_pretrained(model)
    if not plain.exists():
        export(AutoModelForSequenceClassification.from_pretrained(model), tokenizer, plain)
    texts = make_requests("classification", args.texts + args.calibrate)
    ids = tokenizer([each.prompt for each in texts])["input_ids"]
    return Plan(
        str(model), str(plain), ids[: args.texts], ids[args.texts :], args.threads, args.batch
    )


@contextmanager
def running(python: Path, name: str, plan: Plan, work: Path) -> Iterator[Callable[[], Any]]:
    """A contender's process: each call gives what it says next."""
    folder = work / name
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
    with (work / f"{name}.log").open("w+") as log:
        script = Path(__file__).with_name("quantisation_contenders.py")
        process = subprocess.Popen(
            [python, script, name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(plan.threads), "PYTHONPATH": code_path()},
        )

        def ask() -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            timer = threading.Timer(MOST_SECONDS, process.kill)
            timer.start()
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            timer.cancel()
            if not line and process.wait() == -signal.SIGKILL:
                raise ContenderError(f"it did not answer all texts within {MOST_SECONDS} s")
            if not line:
                log.seek(0)
                told = log.read().strip()
                print(f"{name} ended:\n{told[-2000:]}", flush=True)
                raise ContenderError(told.splitlines()[-1][:300] if told else "without a word")
            return json.loads(line)

        try:
            yield ask
        finally:
            process.kill()
            process.communicate()


def code_path() -> str:
    """Where our own packages are: an environment beside this one does not know it."""
    import sm_serve
    import sm_train

    return os.pathsep.join(str(Path(each.__file__).parents[1]) for each in (sm_serve, sm_train))


def has_wheel(python: Path, package: str) -> bool:
    """Whether pip has this package in a build for aarch64 (Graviton), or for every machine."""
    with tempfile.TemporaryDirectory() as folder:
        platforms = [
            f"--platform=manylinux{kind}_aarch64" for kind in ("2014", "_2_28", "_2_34", "_2_35")
        ]
        done = subprocess.run(
            [python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
             *platforms, "--dest", folder, package],
            check=False,
            capture_output=True,
        )  # fmt: skip
    return done.returncode == 0


def instructions() -> list[str]:
    """Those of INSTRUCTIONS that this processor has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return [name for name in INSTRUCTIONS if name in flags]


def differences(logits: list[list[float]], reference: list[list[float]]) -> dict[str, float]:
    """How far answers are from float32's."""
    pairs = list(zip(logits, reference, strict=True))
    largest = max(abs(a - b) for own, plain in pairs for a, b in zip(own, plain, strict=True))
    widest = max(abs(value) for plain in reference for value in plain)
    same = sum(own.index(max(own)) == plain.index(max(plain)) for own, plain in pairs)
    return {
        "largest_difference": round(largest, 6),
        "difference_share": round(largest / widest, 5),
        "same_labels": round(same / len(pairs), 4),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Each contender in turn."""
    names = [name for name in CONTENDERS if name == REFERENCE or name in (args.only or CONTENDERS)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = args.artefacts or Path(folder)
        work.mkdir(exist_ok=True)
        python = environment(args.environment or work / "environment", *PACKAGES, beside=True)
        plan = make_plan(args, work)
        asks, made, failed = {}, {}, {}
        for name in names:
            ask = stack.enter_context(running(python, name, plan, work))
            try:
                made[name] = ask()
            except ContenderError as error:
                failed[name] = str(error)
                continue
            asks[name] = ask
            print(f"{name}: made in {made[name]['made_s']} s", flush=True)
        machine = begin(args)
        outcomes = in_turn(asks, args.rounds)
        wheels = {each: has_wheel(python, each) for each in ("onnxruntime", *PACKAGES)}
    rates, used = (
        {name: [args.texts / each[key] for each in runs] for name, runs in outcomes.items()}
        for key in ("seconds", "processor_seconds")
    )
    plain = made[REFERENCE].pop("logits")
    return {
        "machine": {**machine, "instructions": instructions()},
        "threads": args.threads,
        "texts": args.texts,
        "tokens_of_a_text": round(sum(map(len, plan.texts)) / args.texts, 1),
        "calibrated_on": args.calibrate,
        "aarch64": wheels,
        "contenders": [
            {
                "name": name,
                **differences(made[name].pop("logits", plain), plain),
                **made[name],
                "texts_per_s": spread(rates[name], 1),
                "against_float32": ratio(rates[name], rates[REFERENCE]),
                "texts_per_processor_s": spread(used[name], 1),
                "against_float32_by_processor": ratio(used[name], used[REFERENCE]),
            }
            for name in asks
        ],
        "failed": failed,
        **({"by_processor_against_ours": against_ours(used)} if OURS in asks else {}),
    }


def against_ours(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Each contender's texts a second of processor time, divided by those of our own int8."""
    return {name: ratio(own, rates[OURS]) for name, own in rates.items() if name != OURS}


def main() -> None:
    """Command line."""
    made = parser(__doc__, "quantisation_libraries")
    made.add_argument("--environment", type=Path, help="of the libraries; kept")
    made.add_argument("--artefacts", type=Path, help="where the models are made; kept")
    made.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="beside float32")
    made.add_argument("--texts", type=int, default=400)
    made.add_argument("--calibrate", type=int, default=200)
    made.add_argument("--batch", type=int, default=16, help="texts that torch computes at a time")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = made.parse_args()
    if args.quick:
        args.texts, args.calibrate = 32, 16
    write(args.output, run(args))


if __name__ == "__main__":
    main()
