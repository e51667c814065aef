"""Engines that answer with labels: those of the model, and those of its adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sm_serve.artefact.adapter_head import Head, head_size, read_head
from sm_serve.artefact.thresholds import read_thresholds
from sm_serve.config import Settings
from sm_serve.engines.encoders.base import EncoderEngine


class LabelEngine(EncoderEngine):
    """An encoder whose profiles are the heads of classifiers."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__(model, tokenizer, settings)
        config = model.config
        labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        thresholds = read_thresholds(config.to_dict(), labels)
        self.own_profile: Head = Head(labels, config.problem_type, thresholds)

    def read_profile(self, path: Path) -> Head:
        """See EncoderEngine. Names that a base model without a head has are no names."""
        base = Head((), None) if self.lora.gaps else self.own_profile
        return read_head(path, head_size(path), base)
