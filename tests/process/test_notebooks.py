"""The notebooks under examples/ run from their first cell to their last."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
# Two steps in place of some hundreds: it is the notebook that is tested.
STEPS = "training.hyperparameters.max_steps=2"
CHAT = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def saved_decoder(folder: Path) -> Path:
    """A tiny language model of bytes, untrained."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(["</s>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="</s>", pad_token="</s>", chat_template=CHAT
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), eos_token_id=0, hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=2048,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(name: str, overrides: list[str], tmp_path: Path) -> dict[str, list[Any]]:
    """The outputs of each cell, by its source."""
    ignored = shutil.ignore_patterns("build")
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored)
    (raw,) = folder.glob("raw.*")
    raw.write_text("".join(raw.read_text().splitlines(keepends=True)[:400]))
    notebook = nbformat.read(folder / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "saved with its outputs"
    (first,) = (cell for cell in notebook.cells if "overrides = []" in cell.source)
    first.source = re.sub(
        r"overrides = \[\].*", f"overrides = {json.dumps(overrides)}", first.source
    )
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def outputs_of(shown: dict[str, list[Any]], call: str, kind: str = "text/html") -> list[str]:
    """What the one cell with that call shows, of one kind."""
    (outputs,) = (outputs for source, outputs in shown.items() if call in source)
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))


def test_a_classifier_from_raw_rows_to_its_measure(tmp_path: Path) -> None:
    shown = run("sentiment", [STEPS], tmp_path)
    pages = outputs_of(shown, "sm_launch.train(")
    assert len(pages) == 1, "the live view is one output"
    assert "Training" in pages[0]
    assert any("accuracy" in page for page in outputs_of(shown, "evaluate("))


def test_a_chat_model_from_conversations_to_its_perplexity(tmp_path: Path) -> None:
    base = saved_decoder(tmp_path / "base")
    overrides = [f"training.model={base}", STEPS, "evaluation.parameters.max_new_tokens=4"]
    shown = run("sft-chat", overrides, tmp_path)
    (streams,) = (outputs for source, outputs in shown.items() if "preview(" in source)
    assert "⟦" in "".join(output.text for output in streams)
    assert len(outputs_of(shown, "sm_launch.train(")) == 1, "the live view is one output"
    pages = outputs_of(shown, "evaluate(")
    assert any("perplexity" in page for page in pages)
    assert not any("no loss or perplexity" in page for page in pages)
