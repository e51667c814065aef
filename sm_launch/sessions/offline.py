"""What containers and processes that are to reach nothing tell the libraries in them."""

from __future__ import annotations

# huggingface_hub.constants and datasets.config read these; transformers asks the former.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
