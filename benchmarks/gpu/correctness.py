"""Whether it works: one step a function, each ending within a minute or two on a GPU."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs import (
    SMALL,
    WORK,
    Trained,
    ask,
    base_model,
    described,
    greedy,
    rows,
    served,
    stop_and_resume,
    text,
    train,
    vocabulary_size,
)

_FEW = {"max_steps": 4, "per_device_train_batch_size": 4, "save_strategy": "no"}
_LEARNS = {"max_steps": 12, "learning_rate": 1e-3, "warmup_steps": 0}
_ROOM = 30 << 30  # bytes that are left for a batch which wants twice as much
_LEAST_SAME = 0.5
"""Of answers in half precision: random weights have near ties, which rounding decides."""


def sft() -> dict[str, Any]:
    """One full step with all defaults: Triton, Liger's kernels, TRL's own."""
    done = train("sft", "sft", "small", max_steps=1, save_strategy="no")
    return {"seconds": done.seconds, **_lines(done)}


def lora() -> dict[str, Any]:
    """LoRA with all defaults to its merged export."""
    done = train("lora", "sft", use_peft=True, **_LEARNS)
    return _learned(done)


def qlora() -> dict[str, Any]:
    """Four bits to the merged export, with each attention that is there."""
    if SMALL:  # four bits need a GPU; what follows on them does not
        done = train("qlora", "sft", use_peft=True, export="both", **_LEARNS)
        return {"merged_again": _merged_again(done)}
    figures = {}
    names = ["sdpa", *(["flash_attention_2"] if importlib.util.find_spec("flash_attn") else [])]
    for name in names:
        settings = {"use_peft": True, "load_in_4bit": True, "attn_implementation": name}
        done = train(f"qlora-{name}", "sft", **settings, **_LEARNS)
        figures[name] = _learned(done)
    return figures


def compiled() -> dict[str, Any]:
    """torch.compile, which calls the C++ compiler and Triton."""
    backend = {"torch_compile_backend": "eager"} if SMALL else {}
    done = train("compiled", "sft", "small", torch_compile=True, **backend, **_FEW)
    return {"seconds": done.seconds, "losses": done.losses()}


def fsdp() -> dict[str, Any]:
    """Two GPUs: shards against copies, from the first loss to the artefact."""
    settings = {"learning_rate": 1e-4, **_FEW, "save_strategy": "steps", "save_steps": 2}
    copies = train("ddp", "dpo", num_processes=2, **settings)
    shards = train("fsdp", "dpo", num_processes=2, parallelism="fsdp", **settings)
    return {
        "ddp": {"losses": copies.losses(), **described(copies.model)},
        "fsdp": {"losses": shards.losses(), **described(shards.model)},
    }


def vllm() -> dict[str, Any]:
    """vLLM: start, an answer equal to transformers', one adapter."""
    tuned = train("adapter", "sft", use_peft=True, export="adapter", **_LEARNS)
    return _generation("vllm", "bfloat16", "vllm", adapter=tuned.model)


def continuous() -> dict[str, Any]:
    """Our engine with a bfloat16 and a float32 artefact, and an encoder."""
    tuned = train("tuned", "sft", use_peft=True, export="adapter", **_LEARNS).model
    return {
        "bfloat16": _generation("continuous-bf16", "bfloat16", "continuous", adapter=tuned),
        "float32": _generation("continuous-fp32", "float32", "continuous"),
        "encoder": _encoder(),
    }


def preferences() -> dict[str, Any]:
    """Three steps of DPO and of GRPO."""
    few = {**_FEW, "max_steps": 3, "max_length": 512}
    dpo = train("dpo", "dpo", use_peft=True, **few)
    del few["max_length"]
    grpo = train("grpo", "grpo", num_generations=4, max_completion_length=8 if SMALL else 64,
                 reward_funcs='["length"]', **few)  # fmt: skip
    return {
        "dpo": {"losses": dpo.losses(), "seconds": dpo.seconds},
        "grpo": {"reward": grpo.says(" reward="), "seconds": grpo.seconds},
    }


def memory() -> dict[str, Any]:
    """Out of memory: the batch is halved until it fits beside what this process holds."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - _ROOM), dtype=torch.uint8, device="cuda")
    settings = {"max_steps": 2, "per_device_train_batch_size": 256, "save_strategy": "no"}
    done = train("memory", "sft", auto_find_batch_size=True, activation_checkpointing=False,
                 **settings)  # fmt: skip
    del held
    tries = done.log.count("trying again with a smaller batch")
    if not tries:
        raise SystemExit("the batch was never too large: nothing was shown")
    return {"halvings": tries, "batch": done.line("batch:")}


def resume() -> dict[str, Any]:
    """SIGTERM leaves a checkpoint, and the next run goes on from it."""
    return stop_and_resume("resume", "sft", max_steps=8, use_peft=True, save_strategy="no")


def _learned(done: Trained) -> dict[str, Any]:
    losses = done.losses()
    if not losses[-1] < losses[0]:
        raise SystemExit(f"the loss did not fall: {losses}")
    return {
        "seconds": done.seconds,
        "losses": [losses[0], losses[-1]],
        "merged": done.line("merged the adapter"),
        **described(done.model),
        **_lines(done),
    }


def _lines(done: Trained) -> dict[str, str]:
    """What the job says of itself."""
    return {name: done.line(f"{name}:") for name in ("devices", "model", "attention", "batch")}


def _merged_again(done: Trained) -> dict[str, Any]:
    """The merge that a base model in four bits needs, compared with the one that was exported."""
    from safetensors.torch import load_file

    code = (
        "import json, sys; from sm_train.results.reloading import Plan, merge_planned; "
        "merge_planned(Plan(**json.loads(sys.argv[1])))"
    )
    target = WORK / "again"
    target.mkdir()
    plan = {
        "source": str(base_model("0.5b")), "revision": "main", "trust_remote_code": False,
        "architecture": "LlamaForCausalLM", "described": str(done.model),
        "adapter": str(done.model / "adapter"), "target": str(target), "dtype": "bfloat16",
        "export": "both", "new_tokens": [], "rows_before": None,
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code, json.dumps(plan)], check=True)
    one, other = (load_file(path / "model.safetensors") for path in (done.model, target))
    apart = max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
    if apart > 0.02:  # a step of bfloat16 near 1
        raise SystemExit(f"the two merges differ by {apart}")
    return {"largest_difference": apart, **described(target)}


def _generation(name: str, dtype: str, engine: str, adapter: Path | None = None) -> dict[str, Any]:
    """One engine's start, its answers against transformers', and what an adapter changes."""
    model = base_model("0.5b", dtype)
    chance, tokens = random.Random(2), 8 if SMALL else 32
    prompts = [text(chance, 5 + 4 * i, vocabulary_size("0.5b")) for i in range(4 if SMALL else 8)]
    computed = "float32" if SMALL else "bfloat16"
    expected = greedy(model, prompts, tokens, computed)
    parameters = {"max_new_tokens": tokens, "do_sample": False, "ignore_eos_token": True}
    bodies = [{"inputs": prompt, "parameters": parameters} for prompt in prompts]
    tuned = {"parameters": {**parameters, "adapter_id": "tuned"}}
    place = _beside(model, adapter, name) if adapter else model
    with served(name, place, "generation", SM_SERVE_ENGINE=engine) as (target, ready):
        answers = [answer[0]["generated_text"] for answer in ask(target, bodies, 4)[0]]
        figures: dict[str, Any] = {"ready_seconds": ready}
        if adapter:
            changed = ask(target, [body | tuned for body in bodies], 4)[0]
            figures["adapter_changes"] = sum(
                answer[0]["generated_text"] != plain
                for answer, plain in zip(changed, answers, strict=True)
            ) / len(prompts)  # fmt: skip
    same = sum(a.strip() == b.strip() for a, b in zip(answers, expected, strict=True))
    figures["same_as_transformers"] = same / len(prompts)
    if figures["same_as_transformers"] < (1 if SMALL else _LEAST_SAME):
        raise SystemExit(f"other answers than transformers': {answers[:2]} {expected[:2]}")
    return figures


def _beside(model: Path, adapter: Path, name: str) -> Path:
    """The base model with an adapter that requests may name."""
    folder = WORK / "with-adapter" / name
    shutil.copytree(model, folder)
    shutil.copytree(adapter, folder / "adapters" / "tuned")
    return folder


def _encoder() -> dict[str, Any]:
    """A classifier from its training to its labels."""
    done = train("classifier", "text-classification", "small", use_peft=True, **_FEW)
    bodies = [{"inputs": row["text"]} for row in rows("text-classification", 8, "small")]
    with served("encoder", done.model, "classification") as (target, ready):
        answers, _ = ask(target, bodies, 4)
    labels = {answer[0]["label"] for answer in answers}
    assert labels <= {"a", "b"}, labels
    return {"ready_seconds": ready, "labels": sorted(labels), **described(done.model)}
