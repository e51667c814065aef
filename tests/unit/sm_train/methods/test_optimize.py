"""What optimize reads off an artefact, and what it refuses before torch is imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sm_train.config import load_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.methods.optimize import reads_as, shares
from sm_train.modelling.base_model import resolve_base_model
from sm_train.rows import Data

BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "id2label": {"1": "good", "0": "bad"},
    "task_specific_params": {
        "text-classification": {
            "max_length": 99,
            "threshold": {"good": 0.2, "bad": 0.8},
            "columns": {"text": "review", "text_pair": "title", "label": "verdict"},
        }
    },
}
ROW = {"review": "fine", "title": "a", "verdict": "good"}
FULL = {"train": [ROW], "validation": [ROW] * 2, "test": [ROW] * 3}
Job = Callable[..., tuple[Any, Data]]


@pytest.fixture
def job(paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]) -> Job:
    """The inner config and the rows of a job with this artefact, channels and settings."""

    def make(
        described: dict[str, Any], channels: dict[str, Any] = FULL, **settings: Any
    ) -> tuple[Any, Data]:
        hyperparameters(method="optimize", **settings)
        channel("model", json.dumps(described), "config.json")
        channel("model", "", "model.safetensors")
        for name, rows in channels.items():
            channel(name, rows)
        config = load_config(paths)
        inner = reads_as(config, resolve_base_model(paths, config).origin)
        return inner, load_data(paths, inner)

    return make


def test_rows_are_read_as_the_artefact_says_that_it_was_trained(job: Job) -> None:
    inner, data = job(BERT)
    assert inner.method.name == "text-classification"
    own = inner.own
    assert (own.labels, own.max_length) == (["bad", "good"], 99)
    assert own.threshold == {"good": 0.2, "bad": 0.8}
    assert (own.text_column, own.text_pair_column, own.label_column) == (
        "review", "title", "verdict",
    )  # fmt: skip
    assert data.test == [{"text": "fine", "text_pair": "a", "label": "good"}] * 3


def test_columns_are_renamed_before_they_are_looked_for(job: Job) -> None:
    row = {"REVIEW": "fine", "title": "a", "verdict": "good"}
    inner, data = job(BERT, {"test": [row]}, columns={"REVIEW": "review"})
    assert inner.own.text_column == "review"
    assert data.test == [{"text": "fine", "text_pair": "a", "label": "good"}]


def test_held_out_rows_alone_will_do_and_labels_that_the_model_lacks_are_set_aside(
    job: Job,
) -> None:
    strange = {**ROW, "verdict": "odd"}
    _, data = job(BERT, {"validation": [ROW, strange]}, max_rejected_share=0.5)
    assert (data.train, data.test, data.rejected) == ([], None, {"validation": 1})
    with pytest.raises(UserError, match="unknown label 'odd'"):
        job(BERT, {"validation": [ROW, strange]})


@pytest.mark.parametrize(
    ("described", "method", "expected"),
    [
        ({"architectures": ["XForTokenClassification"]}, "token-classification", {}),
        (
            {
                "architectures": ["XForQuestionAnswering"],
                "task_specific_params": {
                    "question-answering": {"max_seq_len": 64, "doc_stride": 9, "max_answer_len": 5}
                },
            },
            "question-answering",
            {"max_length": 64, "doc_stride": 9, "max_answer_length": 5},
        ),
        ({"architectures": ["XModel"]}, "embedding", {}),
        ({"architectures": ["XForSequenceClassification"], "problem_type": "regression"},
         "text-classification", {"problem_type": "regression", "labels": None}),
        ({"architectures": ["XForSequenceClassification"], "id2label": {"0": "score"}},
         "text-classification", {"problem_type": "regression", "labels": None}),
    ],
)  # fmt: skip
def test_each_kind_of_encoder_is_known_by_its_class(
    paths: Paths,
    hyperparameters: Callable[..., None],
    channel: Callable[..., Path],
    described: dict[str, Any],
    method: str,
    expected: dict[str, Any],
) -> None:
    hyperparameters(method="optimize")
    channel("test", [ROW])
    folder = channel("model", json.dumps({"model_type": "bert", **described}), "config.json")
    inner = reads_as(load_config(paths), str(folder))
    assert inner.method.name == method
    assert {name: getattr(inner.own, name) for name in expected} == expected


DECODER = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize(
    ("described", "settings", "field"),
    [
        ({**BERT, "architectures": ["BertModel"]}, {"precision": "fp8"}, "precision"),
        (BERT, {"precision": "int4"}, "precision"),
        ({**DECODER, "quantization_config": {"bits": 4}}, {"precision": "fp8"}, "precision"),
        (
            {**DECODER, "architectures": ["LlamaForSequenceClassification"]},
            {"precision": "fp8"},
            "precision",
        ),
        ({**DECODER, "architectures": ["LlamaForSequenceClassification"]}, {}, "precision"),
        ({**BERT, "is_decoder": True}, {}, "precision"),
        ({**BERT, "dtype": "bfloat16"}, {"precision": "bfloat16"}, "precision"),
        ({**BERT, "quantization_config": {"bits": 4}}, {"precision": "bfloat16"}, "precision"),
        ({**BERT, "architectures": ["BertForMaskedLM"]}, {}, "channel model"),
        ({**BERT, "architectures": None}, {}, "channel model"),
        (BERT, {"max_drop": 1.5}, "max_drop"),
        (BERT, {"speculation": "ngram"}, "speculation"),
        (DECODER, {"speculation": "draft"}, "speculation"),
        (DECODER, {"speculation": "ngram", "speculative_tokens": 0}, "speculative_tokens"),
        (BERT, {"precision": "int3"}, "precision"),
        (BERT, {"learning_rate": 1e-3}, "learning_rate"),
        (BERT, {"use_peft": True}, "use_peft"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    job: Job, described: dict[str, Any], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(UserError) as refused:
        job(described, **settings)
    assert refused.value.field == field
    assert refused.value.fix


ASKED = [{"prompt": f"p{place}", "completion": "c"} for place in range(5)]


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "bfloat16"])
def test_a_language_model_takes_every_precision(job: Job, precision: str) -> None:
    inner, data = job(DECODER, {"test": ASKED}, precision=precision)
    assert (inner.method.name, data.test) == ("sft", ASKED)
    assert (inner.model.dtype, inner.training["use_liger_kernel"]) == ("auto", False)


def test_what_is_bfloat16_already_may_be_guessed_ahead(job: Job) -> None:
    stored = {**DECODER, "dtype": "bfloat16"}
    with pytest.raises(UserError, match="has already"):
        job(stored, {"test": ASKED}, precision="bfloat16")
    assert job(stored, {"test": ASKED}, precision="bfloat16", speculation="ngram")


def test_an_adapter_alone_is_refused_by_name(
    paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]
) -> None:
    hyperparameters(method="optimize", precision="fp8")
    channel("test", ASKED)
    folder = channel("model", "{}", "adapter_config.json")
    with pytest.raises(UserError, match="adapter without its base model") as refused:
        reads_as(load_config(paths), str(folder))
    assert "export: merged" in str(refused.value.fix)


@settings(max_examples=60)
@given(test=st.integers(0, 1200), validation=st.integers(0, 1200), calibrates=st.booleans())
def test_no_row_both_calibrates_and_is_scored(test: int, validation: int, calibrates: bool) -> None:
    assume(test or validation)
    rows = {
        "test": [{"text": f"t{place}"} for place in range(test)] or None,
        "validation": [{"text": f"v{place}"} for place in range(validation)] or None,
    }
    data = Data([], rows["validation"], rows["test"])
    split = "test" if data.test else "validation"
    held_out = data.split(split) or []
    if calibrates and not (split == "test" and data.validation) and len(held_out) < 2:
        with pytest.raises(UserError):
            shares(data, split, calibrates)
        return
    calibrating, scored, told = shares(data, split, calibrates)
    assert scored
    if not calibrates:
        assert (scored, told) == (held_out, "")
        return
    names = [row["text"] for row in calibrating], [row["text"] for row in scored]
    assert not set(names[0]) & set(names[1])
    assert 1 <= len(calibrating) <= 512
    assert f"{len(calibrating)} rows" in told


def test_without_held_out_rows_nothing_is_proven(job: Job) -> None:
    with pytest.raises(UserError, match="nothing could prove"):
        job(BERT, {"train": [ROW]})


def test_what_was_made_for_serving_is_no_base_model(
    paths: Paths, hyperparameters: Callable[..., None], channel: Callable[..., Path]
) -> None:
    hyperparameters(method="optimize")
    folder = channel("model", json.dumps(BERT), "config.json")
    channel("test", [ROW])
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model_quantized.onnx").write_text("")
    with pytest.raises(UserError, match="made for serving"):
        resolve_base_model(paths, load_config(paths))


LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float32"}
SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
BAD = [{"role": "assistant", "content": "c"}]


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"prompt": "a", "chosen": " b", "rejected": " c"}, {"prompt": "a", "completion": " b"}),
        (
            {"question": "a", "chosen": "b", "rejected": "c"},
            {"prompt": SAID[:1], "completion": SAID[1:]},
        ),
        (
            {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": BAD},
            {"prompt": SAID[:1], "completion": SAID[1:]},
        ),
        ({"chosen": SAID, "rejected": [*SAID[:1], *BAD]}, {"messages": SAID}),
        ({"prompt": "a", "completion": " b"}, {"prompt": "a", "completion": " b"}),
    ],
)
def test_of_a_preference_pair_the_better_answer_is_the_one_to_give(
    job: Job, row: dict[str, Any], read: dict[str, Any]
) -> None:
    inner, data = job(LLAMA, {"test": [row] * 2})
    assert inner.method.name == "sft"
    assert data.test == [read] * 2
