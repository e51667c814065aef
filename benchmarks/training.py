"""Fine-tuning speed: our `train` against TRL's own SFT script, by its defaults and by our settings.

    python benchmarks/training.py                               # a small Llama on a CPU
    python benchmarks/training.py --model 1b --lora             # where a GPU is

Every contender is a process of its own on the same model and the same generated rows, whose lengths
are skewed as those of real conversations. They run in turn (see harness.py). `final_loss` is
that of the last log event, so that a speed which costs quality shows. Steady state is between the
first and the last log event: differences of `num_tokens` (padding is not counted) and of the clock.
Model FLOPs: 6 a parameter and token in full training, 4 with LoRA (frozen weights get no gradient),
and 12 (8) x layers x width x length / 2 for causal attention.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import begin, in_turn, parser, ratio, spreads, write

# Layers, width, feed-forward width, heads, key-value heads, vocabulary.
SHAPES = {
    "tiny": (2, 64, 128, 4, 2, 1000),
    "small": (6, 320, 1024, 5, 5, 4000),
    "0.5b": (24, 896, 4864, 14, 2, 32000),
    "1b": (16, 2048, 8192, 32, 8, 32000),
    "8b": (32, 4096, 14336, 32, 8, 32000),
}
# Dense bfloat16 peak of the data sheets, in FLOP/s.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
IMPORTS = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer; import datasets, peft; "
    "from trl import SFTConfig, SFTTrainer"
)
_STEP = re.compile(r"(?:'num_tokens': '?|num_tokens=)([0-9.e+]+)")
_LOSS = re.compile(r"(?:'loss': '?|(?:^|\s)loss=)([0-9.e+-]+)")
_LOOK_SECONDS = 0.1


@dataclass
class Run:
    """One contender's figures."""

    tokens_per_second: float
    tokens_per_cpu_second: float
    seconds_to_first_step: float
    cpu_seconds_to_first_step: float
    peak_memory_gb: float
    final_loss: float


def write_model(folder: Path, shape: str, dtype: str) -> int:
    """A random Llama and a word-level tokenizer; returns the number of parameters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    layers, width, inner, heads, kv_heads, vocabulary_size = SHAPES[shape]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", "</s>"])}
    vocabulary |= {f"w{i}": i for i in range(3, vocabulary_size)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=4096,
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    set_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # billions of numbers
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return int(model.num_parameters())


def write_rows(
    file: Path, count: int, longest: int, vocabulary_size: int, *, full: bool = False
) -> None:
    """Texts of log-normal length: half are under a tenth of the longest, few are near it.

    `full`: all of them are as long as the longest.
    """
    chance = random.Random(11)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as out:
        for _ in range(count):
            drawn = longest if full else int(chance.lognormvariate(0, 1) * longest / 12)
            length = min(longest - 1, max(8, drawn))
            text = " ".join(f"w{chance.randrange(3, vocabulary_size)}" for _ in range(length))
            out.write(json.dumps({"text": text}) + "\n")


class Watch:
    """Runs a command; notes clock, CPU time and tokens at each log event, and the peak memory."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        self.peak = 0.0
        self.loss = float("nan")
        self.events: list[tuple[float, float, float]] = []  # clock, CPU seconds, tokens
        quiet = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true"}
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **quiet, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._look, daemon=True).start()
        lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line)
            if match := _LOSS.search(line):
                self.loss = float(match[1])
            if "eval_" not in line and (match := _STEP.search(line)):
                now = time.perf_counter() - begun
                self.events.append((now, self._cpu_seconds(), float(match[1])))
        if self.process.wait():
            raise SystemExit("".join(lines[-60:]))

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _look(self) -> None:
        while self.process.poll() is None:
            self.peak = max(self.peak, gpu_memory() or self._resident())
            time.sleep(_LOOK_SECONDS)

    def _resident(self) -> float:
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(match[1]) / 1e6 if match else 0.0

    def result(self) -> Run:
        (start, cpu_start, tokens_start), (end, cpu_end, tokens_end) = (
            self.events[0],
            self.events[-1],
        )
        tokens = tokens_end - tokens_start
        return Run(
            tokens_per_second=round(tokens / (end - start), 1),
            tokens_per_cpu_second=round(tokens / max(cpu_end - cpu_start, 1e-9), 1),
            seconds_to_first_step=round(start, 2),
            cpu_seconds_to_first_step=round(cpu_start, 2),
            peak_memory_gb=round(self.peak, 3),
            final_loss=self.loss,
        )


def gpu_memory() -> float:
    """GB in use on the first GPU; 0 without one. The driver is asked: WSL2 has none in /dev."""
    if not shutil.which("nvidia-smi"):
        return 0.0
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return float(answer.strip() or 0) / 1e3


def run_script(work: Path, options: argparse.Namespace, matched: bool) -> Run:
    """TRL's own script; `matched` gives it the settings that ours chooses."""
    import trl.scripts.sft

    from sm_train.modelling.model import has_bf16

    command = [sys.executable, trl.scripts.sft.__file__]
    settings: dict[str, Any] = {
        "model_name_or_path": work / "model",
        "dataset_name": work / "data",
        "output_dir": work / "out",
        "max_steps": options.steps,
        "max_length": options.max_length,
        "save_strategy": "no",
        "report_to": "none",
        "logging_first_step": True,
        "logging_steps": options.logging_steps,
        "per_device_train_batch_size": options.batch,
    }
    if not gpu_memory():
        settings["use_cpu"] = True  # bfloat16, its default, is refused otherwise
    if options.lora:
        settings |= {"use_peft": True, "lora_r": 16, "lora_alpha": 32}
        settings["lora_target_modules"] = "all-linear"
    if matched:
        gpu = bool(gpu_memory())
        settings |= {
            "train_sampling_strategy": "group_by_length",
            "bf16": has_bf16(),
            "dtype": "bfloat16" if gpu and (options.lora or options.dtype) else "float32",
            "gradient_checkpointing": gpu and not options.no_recomputation,
        }
        if not gpu:
            settings |= {"dataloader_pin_memory": False}
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    return Watch(command, work).result()


def run_ours(work: Path, options: argparse.Namespace, **others: str) -> Run:
    """Our `train`; `others` are more hyperparameters."""
    base = Path(tempfile.mkdtemp(dir=work))
    settings: dict[str, Any] = {
        "method": "sft",
        "model_name_or_path": str(work / "model"),
        "max_steps": options.steps,
        "max_length": options.max_length,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": options.logging_steps,
        "per_device_train_batch_size": options.batch,
    }
    if options.lora:
        settings["use_peft"] = "true"
    if options.dtype:
        settings["dtype"] = options.dtype
    if options.no_recomputation:
        settings["activation_checkpointing"] = "false"
    settings |= others
    config = base / "input" / "config"
    config.mkdir(parents=True)
    values = {key: str(value) for key, value in settings.items()}
    (config / "hyperparameters.json").write_text(json.dumps(values))
    (config / "inputdataconfig.json").write_text('{"train": {}}')
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    (base / "input" / "data").mkdir()
    (base / "input" / "data" / "train").symlink_to(work / "data")
    module = "sm_train.entry:main"
    train = Path(sys.executable).with_name("train")
    # On a machine that has but our code, the toolkit's command is not there.
    command = [str(train)] if train.exists() else [sys.executable, "-m", "sm_train.entry"]
    return Watch(
        command, base, SAGEMAKER_BASE_DIR=str(base), SAGEMAKER_TRAINING_MODULE=module
    ).result()


def flops_per_token(parameters: int, options: argparse.Namespace) -> float:
    layers, width = SHAPES[options.model][:2]
    passes = 4 if options.lora else 6
    return passes * parameters + passes * layers * width * options.max_length


def start_up(work: Path, rounds: int) -> dict[str, Any]:
    """Seconds to the first optimizer step of a tiny job, against its libraries' imports alone."""
    write_model(work / "model", "tiny", "float32")
    write_rows(work / "data" / "train.jsonl", 256, 64, SHAPES["tiny"][-1])
    options = argparse.Namespace(
        steps=2, max_length=64, logging_steps=1, batch=4, lora=False, dtype=None
    )
    options.no_recomputation = False

    def imports() -> dict[str, float]:
        before, begun = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=work)
        after = os.times()
        cpu = after.children_user + after.children_system
        cpu -= before.children_user + before.children_system
        return {"seconds": time.perf_counter() - begun, "cpu_seconds": cpu}

    def first_step() -> dict[str, float]:
        run = run_ours(work, options)
        return {"seconds": run.seconds_to_first_step, "cpu_seconds": run.cpu_seconds_to_first_step}

    outcomes = in_turn({"imports": imports, "first_step": first_step}, rounds)
    figures: dict[str, Any] = {name: spreads(runs) for name, runs in outcomes.items()}
    for unit in ("seconds", "cpu_seconds"):
        steps, bare = ([run[unit] for run in outcomes[n]] for n in ("first_step", "imports"))
        figures[f"ratio_of_{unit}"] = ratio(steps, bare)
    return figures


def stack() -> dict[str, Any]:
    """The GPU and the versions of the libraries."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    names = ("torch", "transformers", "trl", "peft", "accelerate")
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"gpu": gpu, "threads": threads, **{name: version(name) for name in names}}


def arguments(
    about: str | None, name: str, *, batch: int, logging_steps: int
) -> argparse.Namespace:
    """The options of a benchmark of training steps; `name` is its result's."""
    made = parser(about, name)
    made.add_argument("--model", choices=[*SHAPES], default="small")
    made.add_argument("--rows", type=int, default=2000)
    made.add_argument("--steps", type=int, default=13, help="optimizer steps of each run")
    made.add_argument("--batch", type=int, default=batch, help="sequences a step, for all alike")
    made.add_argument("--max-length", type=int, default=512)
    made.add_argument("--logging-steps", type=int, default=logging_steps)
    made.add_argument("--lora", action="store_true")
    made.add_argument("--dtype", help="weights' type of ours and of the matched script")
    made.add_argument("--no-recomputation", action="store_true", help="keep all activations")
    options = made.parse_args()
    if options.quick:
        options.model, options.rows, options.steps = "tiny", 64, 4
        options.max_length, options.logging_steps = 64, 1
    return options


def base_and_rows(work: Path, options: argparse.Namespace) -> int:
    """Write the base model and the rows; the model's number of parameters."""
    dtype = "float32" if options.model in ("tiny", "small") else "bfloat16"
    parameters = write_model(work / "model", options.model, dtype)
    file = work / "data" / "train.jsonl"
    write_rows(file, options.rows, options.max_length, SHAPES[options.model][-1])
    return parameters


def measure(work: Path, options: argparse.Namespace) -> tuple[int, dict[str, list[Run]]]:
    parameters = base_and_rows(work, options)
    contenders = {
        "trl_defaults": lambda: run_script(work, options, matched=False),
        "trl_our_settings": lambda: run_script(work, options, matched=True),
        "ours": lambda: run_ours(work, options),
    }
    return parameters, in_turn(contenders, options.rounds)


def main() -> None:
    options = arguments(__doc__, "training", batch=4, logging_steps=4)
    machine = begin(options)
    with tempfile.TemporaryDirectory() as name:
        parameters, outcomes = measure(Path(name) / "speed", options)
        start = start_up(Path(name) / "start", options.rounds)
    libraries = stack()
    runs = {name: spreads([asdict(run) for run in each]) for name, each in outcomes.items()}
    peak = next((v for k, v in PEAKS.items() if libraries["gpu"] and k in libraries["gpu"]), None)
    for run in runs.values() if peak else ():
        speed = run["tokens_per_second"]["median"]
        run["mfu"] = {"median": round(speed * flops_per_token(parameters, options) / peak, 4)}
    write(
        options.output,
        {
            "machine": {**machine, **libraries},
            "settings": {**vars(options), "output": None, "parameters": parameters},
            "runs": runs,
            "against_trl_defaults": against(outcomes, "trl_defaults", "tokens_per_second"),
            "against_our_settings": against(outcomes, "trl_our_settings", "tokens_per_second"),
            # What the wall clock says depends on what else runs on the machine; this hardly does.
            "per_cpu_second_against_trl_defaults": against(
                outcomes, "trl_defaults", "tokens_per_cpu_second"
            ),
            "per_cpu_second_against_our_settings": against(
                outcomes, "trl_our_settings", "tokens_per_cpu_second"
            ),
            "start": start,
        },
    )


def against(runs: dict[str, list[Run]], other: str, figure: str) -> dict[str, float]:
    """Ours against another contender, of each round by itself."""
    ours, theirs = ([getattr(run, figure) for run in runs[n]] for n in ("ours", other))
    return ratio(ours, theirs)


if __name__ == "__main__":
    main()
