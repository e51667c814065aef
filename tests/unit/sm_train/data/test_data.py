"""Channels to rows: what is set aside, what fails the job, and what the message says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.channels import load_data
from sm_train.errors import UserError
from sm_train.rows import Data

Channel = Callable[..., Path]
GOOD = [{"text": "fine", "label": "pos"}, {"text": "dull", "label": "neg"}] * 10


def load(paths: Paths, **settings: Any) -> Data:
    return load_data(paths, parse_config({"method": "text-classification", **settings}))


def test_a_bad_row_is_set_aside_with_its_reason(paths: Paths, channel: Channel) -> None:
    rows = "\n".join(map(json.dumps, GOOD))
    channel("train", rows + '\n{"text": "", "label": "pos"}\n{"text": broken\n')
    data = load(paths)
    assert (len(data.train), data.rejected) == (20, {"train": 2})
    lines = (paths.output_data / "rejected.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["row"] for r in records] == [21, 22]
    assert records[0]["reason"] == "no text in column text"
    assert records[1]["reason"].startswith("not valid JSON")
    assert records[1]["raw"] == '{"text": broken'


def test_too_many_bad_rows_fail_the_job(paths: Paths, channel: Channel) -> None:
    channel("train", [*GOOD, *[{"text": None, "label": "pos"}] * 5])
    with pytest.raises(UserError, match=r"5 of 25 rows .*no text in column text"):
        load(paths)
    assert load(paths, max_rejected_share="0.2").rejected == {"train": 5}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.csv", 'text,label\nfine,pos\n"du,ll",neg\n'),
        ("a.tsv", "text\tlabel\nfine\tpos\ndull\tneg\n"),
        ("a.json", json.dumps(GOOD[:2])),
        ("a.json", json.dumps({"data": GOOD[:2]})),
        ("a.jsonl", "\ufeff" + "\n".join(map(json.dumps, GOOD[:2]))),
    ],
)
def test_every_format(paths: Paths, channel: Channel, file: str, text: str) -> None:
    channel("training", text, file)
    assert [row["label"] for row in load(paths).train] == ["pos", "neg"]


def test_a_field_may_be_as_long_as_a_document(paths: Paths, channel: Channel) -> None:
    long = "word " * 60_000
    channel("train", f'text,label\n"{long}",pos\nshort,neg\n', "a.csv")
    assert len(load(paths).train[0]["text"]) == 300_000


def test_a_file_that_was_cut_off_is_named(paths: Paths, channel: Channel) -> None:
    import gzip

    folder = channel("train", "", "empty.ignored")
    whole = gzip.compress("\n".join(map(json.dumps, GOOD)).encode())
    for cut in (whole[:40], whole[:-4], whole[:20] + b"\xff" * 30):
        (folder / "a.jsonl.gz").write_bytes(cut)
        with pytest.raises(UserError, match=r"file a\.jsonl\.gz: cannot be read"):
            load(paths)


def test_parquet(paths: Paths, channel: Channel) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = channel("train", "", "empty.ignored")
    pq.write_table(pa.Table.from_pylist(GOOD), folder / "a.parquet")
    assert len(load(paths).train) == 20


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], {}, "is empty"),
        ([{"review": "x", "label": "a"}] * 3, {}, r"no column 'text'; its columns are \['label'"),
        ([{"text": "x", "label": "a"}] * 3, {}, "every row of the train channel is 'a'"),
        (GOOD, {"num_labels": "3"}, "the data has 2 classes"),
        (GOOD, {"labels": "pos,bad"}, "unknown label 'neg'"),
        (GOOD, {"eval_strategy": "epoch"}, "needs a validation channel"),
        (GOOD, {"early_stopping_patience": "2"}, "needs a validation channel"),
        (GOOD, {"threshold": "tuned"}, "no validation channel"),
        (GOOD, {"threshold": '{"odd": 0.2}'}, "no class: odd"),
    ],
)
def test_data_that_cannot_be_trained_on(
    paths: Paths, channel: Channel, rows: Any, settings: dict[str, Any], message: str
) -> None:
    channel("train", rows)
    with pytest.raises(UserError, match=message):
        load(paths, **settings)


def test_thresholds_are_not_tuned_on_the_test_rows(paths: Paths, channel: Channel) -> None:
    for name in ("train", "test"):
        channel(name, GOOD)
    with pytest.raises(UserError, match="no validation channel"):
        load(paths, threshold="tuned", eval_strategy="epoch")


def test_a_class_that_training_never_sees(paths: Paths, channel: Channel) -> None:
    channel("train", GOOD)
    channel("test", [{"text": "x", "label": "odd"}])
    with pytest.raises(
        UserError, match="channel test: has classes that the train channel lacks: odd"
    ):
        load(paths)


def test_class_ids_of_the_hub_have_the_names_that_their_file_gives_them(
    paths: Paths, channel: Channel
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"names": ["odd", "even"], "_type": "ClassLabel"}
    features = {"label": label, "tags": {"feature": label, "_type": "Sequence"}}
    rows = [
        {"text": f"t{n}", "label": n % 2, "tokens": ["a", "b"], "tags": [n % 2, 1]}
        for n in range(20)
    ]
    rows.append({"text": "x", "label": -1, "tokens": ["a"], "tags": [-1]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    folder = paths.channels / "train"
    folder.mkdir()
    table = pa.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "a.parquet")
    data = load(paths)
    assert [row["label"] for row in data.train] == ["odd", "even"] * 10
    assert data.rejected["train"] == 1  # -1 says that there is no label
    renamed = load(paths, labels='["bad", "good"]').train
    assert [row["label"] for row in renamed] == ["bad", "good"] * 10
    numbers = load(paths, problem_type="regression").train
    assert [row["label"] for row in numbers] == [0, 1] * 10
    tagged = load_data(paths, parse_config({"method": "token-classification"}))
    assert tagged.train[0]["tags"] == ["odd", "even"]
    assert tagged.rejected["train"] == 1


def test_columns_are_renamed(paths: Paths, channel: Channel) -> None:
    channel("train", [{"review": r["text"], "stars": r["label"]} for r in GOOD])
    assert load(paths, columns='{"review": "text", "stars": "label"}').train == GOOD
    assert load(paths, text_column="review", label_column="stars").train == GOOD


def test_no_train_channel(paths: Paths, channel: Channel) -> None:
    channel("test", GOOD)
    with pytest.raises(UserError, match=r"channel train: is missing; channels present: \['test'\]"):
        load(paths)


def test_sft_formats(paths: Paths, channel: Channel) -> None:
    config = parse_config({"method": "sft"})
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    channel("train", [{"messages": chat}, {"messages": json.dumps(chat)}])
    assert load_data(paths, config).train == [{"messages": chat}] * 2
    channel("train", [{"prompt": "a", "completion": "b"}, {"messages": chat}])
    with pytest.raises(UserError, match="mix formats"):
        load_data(paths, config)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet", "a.txt", "a.jsonl.gz"]),
    st.binary(max_size=60) | st.sampled_from([b'{"text": "a", "label": "b"}', b"text,label\nx,y"]),
)
def test_any_file_is_read_or_refused(paths: Paths, name: str, content: bytes) -> None:
    folder = paths.channels / "train"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError):
        load(paths)
