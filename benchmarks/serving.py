"""Serving side by side on 127.0.0.1: this container against the stock toolkit and transformers.

    python benchmarks/serving.py --task classification|generation|front --model DIR
                                 [--against mms] [--against transformers] [--clients 1 4 16 64]

DIR is a model directory, such as benchmarks/serving_models.py makes.
`mms` is sagemaker-inference with multi-model-server, as AWS ships it (needs Java), with one worker
process, which is one copy of the model, as ours has; `mms-workers` has its default, a worker for
each CPU. `transformers` is `transformers serve` (generation only). What they need beyond this
environment's packages is installed into environments below --environments (kept if named).
`front` measures servers without a model: ours, the least that uvicorn and starlette can do, and a
no-op inference.py under our toolkit handler and under mms.

Writes one JSON document with a row for each server and number of clients; latencies are in
milliseconds, memory in MiB (proportional set size of the whole process tree), readiness in seconds
from start to the first right answer, ping_s to the first 200 of /ping, first_token_ms the median
of a streamed run, cpu_ms_per_request what the server's processes used and client_cpu_ms what the
load generator used. same_answers is the share of answers equal to the stock toolkit's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import serving_targets as servers
from serving_load import run_load, try_once, write_post
from serving_targets import Request, Target, make_requests

OTHERS = ("mms", "mms-workers", "transformers")
STARTS = 2
"""A server is started so often, and the quickest counts: the first one fills the file cache."""
WARM_UP = 16
"""Requests before those that count, for each number of clients."""


def measure(target: Target, args: argparse.Namespace, work: Path) -> tuple[dict[str, Any], Any]:
    """Readiness, memory and a row for each number of clients; and the answers."""
    log = work / f"{target.name}.log"
    starts = []
    for _ in range(STARTS - 1 if args.task != "front" else 0):
        with target.running(log) as process:
            starts.append(wait_until_right(target, args.task, process, log))
    with target.running(log) as process:
        starts.append(wait_until_right(target, args.task, process, log))
        ping, ready = min(starts, key=lambda start: start[1])
        idle = servers.memory(log)
        rows = []
        answers: list[str] = []
        for clients in args.clients:
            row, answers = measure_row(target, args, clients, log)
            rows.append(row)
            print(f"{target.name:12} {json.dumps(row)}", flush=True)
        result = {
            "server": target.name,
            "ping_s": round(ping, 1),
            "ready_s": round(ready, 1),
            "memory_ready_mib": idle,
            "memory_mib": servers.memory(log),
            "rows": rows,
        }
        return result, answers


def measure_row(
    target: Target, args: argparse.Namespace, clients: int, log: Path
) -> tuple[dict[str, Any], list[str]]:
    """One number of clients, after a short run to warm up."""
    requests = make_requests(args.task, args.requests)
    posts = [write_post(target.path, target.body(args.task, request)) for request in requests]
    run_load(target.port, posts[:WARM_UP], clients)
    before = servers.processor_seconds(log)
    load = run_load(target.port, posts, clients)
    used = servers.processor_seconds(log) - before
    count = len(requests)
    row: dict[str, Any] = {"clients": clients, "requests_per_s": round(count / load.wall, 1)}
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
        row["first_token_ms"] = run_load(target.port, streamed, clients).percentile(50, "first")
    return row, [target.read(reply.body) for reply in load.replies]


def wait_until_right(
    target: Target, task: str, process: psutil.Process, log: Path
) -> tuple[float, float]:
    """Seconds until /ping said 200, and until a real request was answered."""
    request = write_post(target.path, target.body(task, Request("good film", 2)))
    ping = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < 120 and process.is_running():
        if not ping and pings(target.port):
            ping = time.perf_counter() - began
        if try_once(target.port, request) == 200:
            ready = time.perf_counter() - began
            return ping or ready, ready
        time.sleep(0.05)
    raise SystemExit(f"{target.name} did not become ready:\n{log.read_text()[-3000:]}")


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
    found = []
    for name, workers in (("mms", 1), ("mms-workers", os.cpu_count() or 1)):
        if name in args.against:
            base = servers.base_dir(work / name, args.model, script)
            python = environment(args, "mms", "multi-model-server==1.1.11")
            found.append(servers.stock(python, base, workers, environ, name))
    if args.task == "front":
        base = servers.base_dir(work / "ours", args.model)
        scripted = servers.base_dir(work / "scripted", args.model, script)
        for name in ("starlette", "noop"):
            front = servers.ours(base, environ, name)
            front.command[1:] = [str(Path(__file__).with_name("serving_front.py")), name]
            found.append(front)
        return [*found, servers.ours(scripted, environ, "toolkit")]
    found.append(servers.ours(servers.base_dir(work / "ours", args.model), environ))
    if "transformers" in args.against:
        python = environment(args, "transformers", "fastapi")
        found.append(servers.transformers_serve(python, args.model, environ))
    return found


def environment(args: argparse.Namespace, name: str, *packages: str) -> Path:
    """The python of an environment, which is made where it is not there yet."""
    python = Path(args.environments) / name / "bin" / "python"
    return python if python.exists() else servers.make_environment(python.parents[1], *packages)


def compare(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our requests/s divided by every other server's, for each number of clients."""
    mine = next((each for each in results if each["server"] == "sm-serve"), None)
    if mine is None:
        return []
    return [
        {
            "against": other["server"],
            "clients": row["clients"],
            "requests_per_s_ratio": round(own["requests_per_s"] / row["requests_per_s"], 2),
        }
        for other in results
        if other is not mine
        for own, row in zip(mine["rows"], other["rows"], strict=True)
    ]


def front_overhead(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a request costs more than under uvicorn and starlette alone: one client's milliseconds
    and, for every number of clients, the server's processor time."""
    bare = next((each for each in results if each["server"] == "starlette"), None)
    if bare is None:
        return []
    return [
        {
            "server": other["server"],
            "clients": row["clients"],
            "p50_ms": round(row["p50_ms"] - least["p50_ms"], 2),
            "cpu_ms": round(row["cpu_ms_per_request"] - least["cpu_ms_per_request"], 2),
        }
        for other in results
        if other is not bare
        for row, least in zip(other["rows"], bare["rows"], strict=True)
    ]


def model_mib(path: Path) -> int:
    """Size of the weights."""
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) >> 20


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures one server after the other, so that they do not share the processors."""
    results: list[dict[str, Any]] = []
    reference: list[str] | None = None
    with tempfile.TemporaryDirectory() as folder:
        args.environments = args.environments or Path(folder) / "environments"
        for target in targets(args, Path(folder)):
            result, answers = measure(target, args, Path(folder))
            reference = reference or answers
            pairs = zip(answers, reference, strict=True)
            result["same_answers"] = round(sum(a == b for a, b in pairs) / len(answers), 3)
            results.append(result)
    return {
        "task": args.task,
        "model": args.model.name,
        "model_mib": model_mib(args.model),
        "threads": args.threads,
        "cpus": os.cpu_count(),
        "processor": processor(),
        "load_average_before": args.load,
        "servers": results,
        **({"over_starlette": front_overhead(results)} if args.task == "front" else {}),
        **({"sm_serve_against": compare(results)} if args.task != "front" else {}),
    }


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--task", choices=["classification", "generation", "front"], required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--against", action="append", default=[], choices=OTHERS)
    parser.add_argument("--environments", type=Path, help="folder for the other servers' packages")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    args.model = args.model.resolve()
    args.environments = args.environments and args.environments.resolve()
    args.load = round(os.getloadavg()[0], 2)
    text = json.dumps(run(args), indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
