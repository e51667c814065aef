"""LoRA adapters in vLLM: its arguments for them, and whether it applies them whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sm_serve.artefact.artefact import ADAPTER_CONFIG, Artefact
from sm_serve.config import Settings
from sm_serve.engines.generators.vllm_worker import METHOD, NAME
from sm_serve.errors import BadRequest, StartupError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of max_lora_rank that vLLM takes."""
IN_A_BATCH = 8


def lora_arguments(artefact: Artefact, settings: Settings) -> dict[str, Any]:
    """AsyncEngineArgs' keywords; none where there are no adapters, and none are to come."""
    own = [artefact.path] if artefact.is_adapter else []
    rank = max([settings.max_lora_rank, *map(adapter_rank, [*own, *artefact.adapters.values()])])
    if not rank:
        return {}
    if rank > RANKS[-1]:
        raise StartupError(f"an adapter of rank {rank}: vLLM takes up to {RANKS[-1]}")
    # An artefact that is an adapter itself has a place beside those that are loaded.
    places = max(settings.max_adapters, 1) + len(own)
    return {
        "enable_lora": True,
        "max_lora_rank": next(size for size in RANKS if size >= rank),
        "max_loras": min(IN_A_BATCH, places),
        "max_cpu_loras": max(places, IN_A_BATCH),
        # By itself vLLM leaves a vision tower as it is, where LoRA's default adapts it, too.
        "enable_tower_connector_lora": "vision_config" in artefact.config,
        "worker_extension_cls": NAME,
    }


def adapter_rank(path: Path) -> int:
    """The largest rank in an adapter."""
    config = json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return int(max([config.get("r", 8), *(config.get("rank_pattern") or {}).values()]))


async def load_whole(engine: Any, adapter: Any) -> None:
    """Load an adapter into vLLM's processes.

    Args:
        engine: vLLM's.
        adapter: a LoRARequest.

    Raises:
        BadRequest: vLLM does not take it, or would apply it in part.
    """
    name = adapter.lora_name
    try:
        loaded = await engine.add_lora(adapter)
    except Exception as error:  # it crossed a process: its type is not vLLM's promise
        raise BadRequest(
            f"vLLM cannot load adapter {name!r}: {str(error)[:300]}. SM_SERVE_MAX_LORA_RANK"
            " must be at least its rank"
        ) from error
    if not loaded:
        raise BadRequest(f"vLLM did not load adapter {name!r}")
    # Of a model in several stages each worker has a part of the modules.
    everywhere = await engine.collective_rpc(METHOD, args=(adapter.lora_int_id,))
    left_out = sorted(set.intersection(*map(set, everywhere)))
    if left_out:
        await engine.remove_lora(adapter.lora_int_id)
        raise BadRequest(
            f"vLLM would leave out {len(left_out)} modules of adapter {name!r}, such as"
            f" {left_out[0]}: merge it before deploying, or train one without them"
            " (lora_target_modules)"
        )
