"""A language model in fewer bits: a whole job, from a trained model to an artefact that says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow


def test_a_language_model_is_calibrated_scored_and_written(
    new_job: Callable[..., Any], decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"w{place} w3 ?", "completion": f"city w{place}"} for place in range(24)]
    job = new_job(
        {"method": "optimize", "precision": "int4", "max_drop": 1, "speculation": "ngram"},
        model=decoder,
        test=rows,
    )
    job.train_here()
    said = capsys.readouterr().out
    assert "Calibrated on the first 12 rows of test, which are not scored." in said
    described = json.loads((job.model / "config.json").read_text())
    assert described["quantization_config"]["quant_method"] == "compressed-tensors"
    assert described["architectures"] == ["LlamaForCausalLM"]
    settings = yaml.safe_load((job.model / "vllm.yaml").read_text())
    assert settings["speculative_config"]["method"] == "ngram"
    proof = job.results["optimization"]
    assert (proof["rows"], proof["metric"]) == (12, "mean_token_accuracy")
    assert proof["after"]["bytes"] < proof["before"]["bytes"]
    assert {"loss", "perplexity", "mean_token_accuracy"} <= proof["after"].keys()
    assert proof["before"].keys() == proof["after"].keys()
    card = (job.model / "README.md").read_text()
    assert "int4 by GPTQ" in card
    assert "Calibrated on the first 12 rows" in card
    assert {"tokenizer.json", "model.safetensors"} <= {file.name for file in job.model.iterdir()}
