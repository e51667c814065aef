"""Serving side by side on 127.0.0.1: this container against the stock toolkit and transformers.

    python benchmarks/serving.py --model DIR --task classification|generation
                                 [--against mms] [--against transformers] [--clients 1 4 16 64]

DIR is a model directory, such as benchmarks/serving_models.py makes.
`mms` is sagemaker-inference with multi-model-server, as AWS ships it: it needs Java. Its package is
installed into an environment of its own beside this one's torch and transformers, unless
--mms-python names one. `transformers` is `transformers serve` (generation only).
Writes one JSON document with a row for each server and number of clients; latencies are in
milliseconds, memory in MiB (proportional set size of the whole process tree), readiness in
seconds from start to the first right answer, first_token_ms the median of a streamed run,
cpu_ms_per_request what the server's processes used.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

STOCK_SCRIPT = """
import json, os, torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

def model_fn(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    classify = os.environ["BENCH_TASK"] == "classification"
    kind = AutoModelForSequenceClassification if classify else AutoModelForCausalLM
    return kind.from_pretrained(model_dir).eval(), tokenizer

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, loaded):
    model, tokenizer = loaded
    with torch.inference_mode():
        batch = tokenizer(data["inputs"], return_tensors="pt", truncation=True)
        if os.environ["BENCH_TASK"] == "classification":
            scores = model(**batch).logits.softmax(-1)[0]
            best = int(scores.argmax())
            return [{"label": model.config.id2label[best], "score": float(scores[best])}]
        tokens = data["parameters"]["max_new_tokens"]
        out = model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        text = tokenizer.decode(out[0, batch["input_ids"].shape[1]:], skip_special_tokens=True)
        return [{"generated_text": text}]
"""
WORDS = ["good", "bad", "film", "plot", "we", "loved", "hated", "it", "never", "again"]


@dataclass
class Request:
    """One request and the tokens that its answer must have."""

    prompt: str
    tokens: int


def make_requests(task: str, count: int) -> list[Request]:
    """Texts of 5 to 60 words; answers skewed as chats are: many short, few long."""
    chance = random.Random(1)
    return [
        Request(
            " ".join(chance.choices(WORDS, k=chance.randint(5, 60 if task[0] == "c" else 20))),
            chance.choice([8, 8, 8, 16, 16, 32, 128]),
        )
        for _ in range(count)
    ]


def free_port() -> int:
    """A port that nothing listens on, below the 32768 that multi-model-server takes."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Target:
    """A server under test."""

    def __init__(self, name: str, command: list[str], port: int, environ: dict[str, str]) -> None:
        self.name = name
        self.port = port
        self._command = command
        self._environ = environ

    def body(self, task: str, request: Request) -> tuple[str, dict[str, Any]]:
        """Path and JSON body of a request."""
        if self.name == "transformers":
            return "/v1/completions", {
                "model": self._environ["BENCH_MODEL"],
                "prompt": request.prompt,
                "max_tokens": request.tokens,
                "temperature": 0,
            }
        body: dict[str, Any] = {"inputs": request.prompt}
        if task == "generation":
            body["parameters"] = {"max_new_tokens": request.tokens}
            if self.name == "sm-serve":
                body["parameters"]["ignore_eos_token"] = True
        return "/invocations", body

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[psutil.Process]:
        """The started process; all that it started, daemons too, is ended afterwards."""
        mark = {"BENCH_RUN": str(log), "TMPDIR": str(log.parent)}
        with log.open("w") as stream:
            process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._environ, **mark},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield psutil.Process(process.pid)
        finally:
            for each in family(log):
                with contextlib.suppress(psutil.Error):
                    each.kill()
            process.wait()


def family(log: Path) -> list[psutil.Process]:
    """All processes of a run: multi-model-server's Java is a daemon, no child of ours."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("BENCH_RUN") == str(log):
                found.append(process)
    return found


def measure(target: Target, task: str, clients: list[int], count: int, log: Path) -> dict[str, Any]:
    """Readiness, memory and a row for each number of clients."""
    requests = make_requests(task, count)
    began = time.perf_counter()
    with target.running(log) as process, httpx.Client(timeout=600) as client:
        wait_until_right(client, target, task, process, log)
        ready = time.perf_counter() - began
        rows = []
        for number in clients:
            load(target, task, requests[: min(count, 2 * number)], number)
            before = processor_seconds(log)
            row = load(target, task, requests, number)
            used = processor_seconds(log) - before
            row["cpu_ms_per_request"] = round(1000 * used / len(requests), 2)
            if task == "generation" and target.name == "sm-serve":
                row["first_token_ms"] = first_token(target, requests[: 4 * number], number)
            rows.append(row)
            print(f"{target.name:12} {json.dumps(rows[-1])}", flush=True)
        return {"server": target.name, "ready_s": round(ready, 1), "memory_mib": memory(log),
                "rows": rows}  # fmt: skip


def wait_until_right(
    client: httpx.Client, target: Target, task: str, process: psutil.Process, log: Path
) -> None:
    """Until a real request is answered, which is what readiness means."""
    path, body = target.body(task, Request("good film", 2))
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.is_running():
        with contextlib.suppress(httpx.HTTPError):
            if client.post(f"http://127.0.0.1:{target.port}{path}", json=body).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"{target.name} did not become ready:\n{log.read_text()[-3000:]}")


def load(target: Target, task: str, requests: list[Request], clients: int) -> dict[str, Any]:
    """All requests by this many clients, each sending the next when it has its answer."""
    local = threading.local()

    def one(request: Request) -> float:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=600)
        path, body = target.body(task, request)
        began = time.perf_counter()
        answer = local.client.post(path, json=body)
        answer.raise_for_status()
        return time.perf_counter() - began

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        latencies = sorted(threads.map(one, requests))
    wall = time.perf_counter() - began
    row: dict[str, Any] = {"clients": clients, "requests_per_s": round(len(requests) / wall, 1)}
    if task == "generation":
        row["tokens_per_s"] = round(sum(request.tokens for request in requests) / wall, 1)
    for share in (50, 95, 99):
        row[f"p{share}_ms"] = round(1000 * latencies[(len(latencies) - 1) * share // 100], 2)
    return row


def first_token(target: Target, requests: list[Request], clients: int) -> float:
    """Median milliseconds from a streamed request to its first token."""

    def one(request: Request) -> float:
        path, body = target.body("generation", request)
        began = time.perf_counter()
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=600) as client,
            client.stream("POST", path, json={**body, "stream": True}) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            moment = time.perf_counter() - began
            for _ in lines:
                pass
        return moment

    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        moments = sorted(threads.map(one, requests))
    return round(1000 * moments[len(moments) // 2], 1)


def make_mms_environment(path: Path) -> str:
    """An environment with multi-model-server that sees this one's packages; its python."""
    subprocess.run([sys.executable, "-m", "venv", path], check=True)
    python = path / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = path / "lib" / version / "site-packages"
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [python, "-m", "pip", "install", "-q", "multi-model-server==1.1.11"]
    subprocess.run(command, check=True)
    return str(python)


def processor_seconds(log: Path) -> float:
    """Processor time that the server has used: comparable even on a machine that is shared."""
    total = 0.0
    for each in family(log):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def memory(log: Path) -> int:
    """Proportional set size of all processes of a run."""
    total = 0
    for each in family(log):
        with contextlib.suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total >> 20


def targets(args: argparse.Namespace, work: Path) -> list[Target]:
    """This container, and those it is compared with."""
    threads = {"OMP_NUM_THREADS": str(args.threads), "BENCH_TASK": args.task}
    ours = work / "ours"
    shutil.copytree(args.model, ours / "model")
    port = free_port()
    base = {"SAGEMAKER_BASE_DIR": str(ours), "SAGEMAKER_BIND_TO_PORT": str(port), **threads}
    found = [Target("sm-serve", [sys.executable, "-m", "sm_serve"], port, base)]
    if "mms" in args.against:
        stock = work / "stock"
        shutil.copytree(args.model, stock / "model")
        (stock / "model" / "code").mkdir()
        (stock / "model" / "code" / "inference.py").write_text(STOCK_SCRIPT)
        port = free_port()
        base = {
            "SAGEMAKER_BASE_DIR": str(stock),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "PATH": f"{Path(args.mms_python).parent}:{os.environ['PATH']}",
            **threads,
        }
        start = "from sagemaker_inference import model_server; model_server.start_model_server()"
        found.append(Target("mms", [args.mms_python, "-c", start], port, base))
    if "transformers" in args.against:
        port = free_port()
        command = [str(Path(sys.executable).parent / "transformers"), "serve", str(args.model),
                   "--port", str(port), "--continuous-batching"]  # fmt: skip
        base = {"BENCH_MODEL": str(args.model), "HF_HUB_OFFLINE": "1", **threads}
        found.append(Target("transformers", command, port, base))
    return found


def main() -> None:
    """Measures one server after the other, so that they do not share the processors."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--task", choices=["classification", "generation"], required=True)
    parser.add_argument("--against", action="append", default=[], choices=["mms", "transformers"])
    parser.add_argument("--mms-python", help="an interpreter that has multi-model-server")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if "mms" in args.against and not args.mms_python:
            args.mms_python = make_mms_environment(work / "mms")
        results = [
            measure(target, args.task, args.clients, args.requests, work / f"{target.name}.log")
            for target in targets(args, work)
        ]
    report = {
        "task": args.task,
        "model": args.model.name,
        "threads": args.threads,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[1],
        "servers": results,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
