"""Every folder of examples/, as a user runs it: from its dirty file to a report.

Three of them run whole, those whose task no other test takes from raw rows to an endpoint; of the
others the rows are prepared and shown as the model gets them. TEST_EVERY_EXAMPLE=1 runs all whole.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import sm_train.preview
from sm_launch import cli
from sm_launch.commands import task_example

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [name for name in task_example.names() if name != "sentiment"]
WHOLE = ("multi-label", "topics", "regression")
DECODERS = ("sft-chat", "dpo", "reward", "grpo")
QUICK = {
    "num_train_epochs": 20,
    "learning_rate": 0.005,
    "per_device_train_batch_size": 4,
    "logging_steps": 100,
    "num_processes": 1,
    "eval_strategy": "no",
    "save_strategy": "no",
    "bf16": False,  # its rounding moves scores, which are compared with the endpoint's
}
# What no constant answer reaches; the examples' gates are for their own models. An untrained
# encoder of one layer reaches more, but how much follows from the rounding of the machine's CPU.
REACHED = {
    "multi-label": ("f1_micro", 0.2),
    "topics": ("f1_macro", 0.2),
    "inference-script": ("accuracy", 0.8),
}
SHORT = {"max_steps": 2, "per_device_train_batch_size": 4, "max_completion_length": 8}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Reason to rows that `data prepare` sets aside: what each README says of its raw file.
REJECTED: dict[str, dict[str, int]] = {
    "dpo": {"missing_chosen": 1, "missing_rejected": 2, "missing_prompt": 1, "duplicate": 1},
    "embeddings": {"missing_anchor": 1, "duplicate": 2, "missing_positive": 1},
    "grpo": {"missing_prompt": 3, "duplicate": 1},
    "inference-script": {"missing_label": 1, "missing_text": 1, "duplicate": 2, "unknown_label": 1},
    "multi-label": {
        "invalid_label": 4,
        "unknown_label": 1,
        "missing_label": 1,
        "duplicate": 3,
        "conflicting_labels": 2,
        "missing_text": 2,
    },
    "ner": {
        "malformed_row": 1,
        "missing_tokens": 2,
        "invalid_tokens": 1,
        "duplicate": 2,
        "invalid_tags": 1,
    },
    "question-answering": {"missing_context": 2, "duplicate": 1, "missing_question": 1},
    "regression": {
        "conflicting_labels": 2,
        "invalid_label": 2,
        "duplicate": 2,
        "missing_text": 3,
        "missing_label": 2,
    },
    "reranking": {
        "missing_document": 2,
        "duplicate": 2,
        "conflicting_labels": 2,
        "missing_label": 1,
        "missing_query": 1,
        "invalid_label": 1,
    },
    "reward": {"duplicate": 1, "missing_chosen": 1, "missing_rejected": 1},
    "summarization": {
        "missing_target": 3,
        "missing_source": 2,
        "duplicate": 2,
        "invalid_target": 1,
        "malformed_row": 1,
    },
    "sft-chat": {"invalid_messages": 3, "missing_messages": 2, "malformed_row": 1, "duplicate": 1},
    "text-pairs": {
        "conflicting_labels": 4,
        "missing_label": 2,
        "unknown_label": 1,
        "missing_text": 1,
        "duplicate": 3,
        "missing_text_pair": 1,
    },
    "topics": {
        "conflicting_labels": 2,
        "duplicate": 3,
        "unknown_label": 2,
        "missing_text": 1,
        "missing_label": 2,
        "malformed_row": 1,
    },
}


def make_tokenizer(path: Path, **settings: Any) -> int:
    """Words of all examples; returns how many there are."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>"]
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = [raw.read_text("latin-1") for name in NAMES for raw in EXAMPLES.glob(f"{name}/raw.*")]
    core.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special)
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=512, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", **settings,
    )  # fmt: skip
    fast.save_pretrained(path)
    return len(fast)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny encoder, a tiny decoder and one of both, all of them untrained."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    folder = tmp_path_factory.mktemp("bases")
    encoder, decoder, both = (folder / name for name in ("encoder", "decoder", "both"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 64, "max_position_embeddings": 512}  # fmt: skip
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=make_tokenizer(encoder), **sizes)).save_pretrained(encoder)
    vocabulary = make_tokenizer(decoder, eos_token="</s>", chat_template=CHAT)
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, eos_token_id=4, **sizes)).save_pretrained(
        decoder
    )
    config = T5Config(
        vocab_size=make_tokenizer(both, eos_token="[SEP]"), d_model=32, d_kv=16, d_ff=64,
        num_layers=1, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(both)
    chosen = {name: decoder if name in DECODERS else encoder for name in NAMES}
    return chosen | {"summarization": both}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_LAUNCH_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def run(*arguments: str) -> None:
    assert cli.run(list(arguments)) == 0, arguments


def prepared(name: str) -> Counter[str]:
    """Take over the example and prepare its rows; how many were set aside, by reason."""
    run("init", "--task", name)
    run("data", "prepare", "--target", "process")
    lines = Path(f"build/{name}/data/rejected.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["reason"] for line in lines)


def settings(name: str, base: Path) -> list[str]:
    """What makes the example quick."""
    quick = QUICK | (SHORT if name in DECODERS else {})
    if name != "grpo":
        quick.pop("max_completion_length", None)
    quick = {f"training.hyperparameters.{key}": value for key, value in quick.items()}
    values = {"training.model": str(base), "evaluation.fail_under": {}, "evaluation.fail_over": {}}
    pairs = {**values, **quick}
    return [part for key, value in pairs.items() for part in ("-s", f"{key}={json.dumps(value)}")]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_s_rows_are_cleaned_and_learnable(
    name: str, bases: dict[str, Path], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rejected = prepared(name)
    assert rejected == REJECTED[name]
    for file in ("README.md", "job.yaml"):
        assert (EXAMPLES / name / file).stat().st_size < 3000
    capsys.readouterr()
    run("train", "--target", "process", "--dry-run", *settings(name, bases[name]))
    request = json.loads(capsys.readouterr().out)
    config, data = here / "job/input/config", here / "job/input/data"
    config.mkdir(parents=True)
    data.mkdir()
    (config / "hyperparameters.json").write_text(json.dumps(request["HyperParameters"]))
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"]}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))
    for split in ("train", "validation", "test"):
        (data / split).symlink_to(here / f"build/{name}/data/{split}")
    (data / "model").symlink_to(bases[name])
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(here / "job"))
    assert sm_train.preview.main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{split} 1" in shown for split in ("train", "validation", "test"))


@pytest.mark.parametrize("name", NAMES if os.environ.get("TEST_EVERY_EXAMPLE") else WHOLE)
def test_an_example_runs_from_raw_rows_to_a_report(
    name: str, bases: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(name)
    own = [*settings(name, bases[name]), "--target", "process"]
    run("train", *own)
    capsys.readouterr()
    run("deploy", *own, *_with_script(name, here))
    try:
        (hint,) = re.findall(r"try it: +sm-launch (.*)", capsys.readouterr().out)
        run(*shlex.split(hint))
        capsys.readouterr()
        run("evaluate", *own, "--json")
        result = json.loads(capsys.readouterr().out)
    finally:
        run("delete", name, "--target", "process")
    assert result["rows"]["failed"] == 0
    metric, least = REACHED.get(name, (result["main_metric"], None))
    assert least is None or result["metrics"][metric] >= least, result["metrics"]
    document = yaml.safe_load((EXAMPLES / name / "job.yaml").read_text())
    gates = {k for way in ("fail_under", "fail_over") for k in document["evaluation"].get(way, {})}
    known = {*result["metrics"], *(f"recall[{label}]" for label in result["per_class"])}
    assert gates <= known, known
    assert result["training"] or name in DECODERS, "evaluate does not know training's test rows"
    for key, trained in (result["training"] or {}).items():
        assert result["metrics"][key] == pytest.approx(trained, abs=1e-4), key
    assert Path(f"build/{name}/report/report.html").stat().st_size > 10_000


def _with_script(name: str, here: Path) -> list[str]:
    """The script of one's own goes into the artefact, as its README says."""
    if not Path("code").is_dir():
        return []
    (archive,) = here.glob("build/*/jobs/*/output/model.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(here / "model")
    shutil.copytree("code", here / "model" / "code")
    return ["--model-data", str(here / "model")]
