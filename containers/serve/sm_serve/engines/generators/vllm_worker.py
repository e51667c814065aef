"""What vLLM's own processes are asked about LoRA adapters, beyond what vLLM tells by itself."""

from __future__ import annotations

from typing import Any

NAME = f"{__name__}.AdapterReport"
"""As vLLM's argument `worker_extension_cls` takes it."""
METHOD = "modules_left_out"


class AdapterReport:
    """Methods of a worker, which vLLM adds to its own class."""

    model_runner: Any

    def modules_left_out(self, number: int) -> list[str]:
        """Modules that a loaded adapter has weights for and this worker applies none to.

        vLLM itself passes over them without a word: a vision tower's, by default.
        """
        manager = self.model_runner.lora_manager._adapter_manager
        adapter = manager.get_adapter(number)
        # A mixture's experts have their first matrices under this name; vLLM stacks them itself.
        own = (name for name in adapter.loras if not name.endswith(".base_layer"))
        return sorted(name for name in own if name not in manager.modules)
