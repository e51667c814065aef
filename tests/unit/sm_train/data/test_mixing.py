"""Several data sets of a split: known by their channels, read each by itself, drawn by weight."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm_train.config import fit_to_job, parse_config
from sm_train.contract import Paths, data_set_of
from sm_train.data.channels import load_data
from sm_train.data.mixing import by_data_set, rows_apart
from sm_train.errors import UserError
from sm_train.rows import Data

Channels = dict[str, list[dict[str, Any]]]


def lay(base: Path, channels: Channels, ending: str = "jsonl") -> Paths:
    paths = Paths(base)
    for name, rows in channels.items():
        folder = paths.channels / name
        folder.mkdir(parents=True)
        (folder / f"data.{ending}").write_text("\n".join(map(json.dumps, rows)))
    return paths


def load(paths: Paths, **given: Any) -> Data:
    config = parse_config({"method": "sft", **given})
    return load_data(paths, fit_to_job(config, paths))


def texts(name: str, count: int) -> list[dict[str, str]]:
    return [{"text": f"{name} {number}"} for number in range(count)]


TWO: Channels = {"train-code": texts("code", 3), "train-chat": texts("chat", 5)}


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        ("train-code", ("train", "code")),
        ("train_code", ("train", "code")),
        ("Training.De-en", ("train", "De-en")),
        ("val-a", ("validation", "a")),
        ("evaluation-a", ("validation", "a")),
        ("testing_a", ("test", "a")),
        ("train-1", ("train", "1")),
        ("train", None),
        ("train-", None),
        ("trainer-a", None),
        ("test_set", None),
        ("train-data", None),
        ("train-dataset2", ("train", "dataset2")),
        ("my-train", None),
        ("model", None),
    ],
)
def test_what_the_name_of_a_channel_tells(channel: str, told: tuple[str, str] | None) -> None:
    assert data_set_of(channel) == told


def test_without_weights_all_rows_of_all_are_read_once(tmp_path: Path) -> None:
    data = load(lay(tmp_path, TWO))
    assert [row["text"] for row in data.train] == [
        row["text"] for name in ("train-chat", "train-code") for row in TWO[name]
    ]
    line = next(note for note in data.notes if note.startswith("data set code"))
    assert "3 rows: 3 of the 8 rows of an epoch (37.5%), each of its rows 1 times an epoch" in line
    assert "3 times in 3 epochs" in line
    assert "never" not in line


def test_each_is_read_by_its_own_columns_template_and_kinds(tmp_path: Path) -> None:
    paths = lay(
        tmp_path,
        {
            "train-maths": [{"question": "1+1", "answer": "2"}],
            "train-news": [{"title": "t", "body": "b", "summary": "s"}],
            "train-chat": [{"messages": [{"role": "user", "content": "a"},
                                         {"role": "assistant", "content": "b"}]}],
            "validation-news": [{"title": "u", "body": "c", "summary": "d"}],
        },
    )  # fmt: skip
    data = load(
        paths,
        dataset_columns={"maths": {"question": "prompt", "answer": "completion"},
                         "news": {"summary": "completion"}},
        dataset_prompt_templates={"news": "{title}: {body}"},
    )  # fmt: skip
    sets = by_data_set(data)
    assert sets["maths"] == [{"prompt": "1+1", "completion": "2"}]
    assert [row["prompt"] for row in sets["news"]] == ["t: b", "u: c"]
    assert sets["chat"][0]["messages"][1]["content"] == "b"
    assert rows_apart(data, "validation") == {"news": [0]}


def test_one_data_set_has_one_format(tmp_path: Path) -> None:
    mixed = [{"text": "a"}, {"prompt": "a", "completion": "b"}]
    paths = lay(tmp_path, {"train-a": texts("a", 2), "train-b": mixed})
    with pytest.raises(UserError, match="data set b: mix formats: 1 rows with text"):
        load(paths)
    other = lay(tmp_path / "2", {"train-a": [{"prompt": "a", "completion": "b", "label": True}],
                                 "train-b": [{"prompt": [{"role": "user", "content": "a"}],
                                              "completion": "b", "label": False}]})  # fmt: skip
    with pytest.raises(UserError, match="channels: mix formats"):  # TRL's trainer makes its tokens
        load(other, method="kto")


@pytest.mark.parametrize(
    ("channels", "given", "message"),
    [
        (TWO | {"train": texts("a", 1)}, {}, "channel train: stands beside train-chat, train-code"),
        ({"train-a": texts("a", 1), "train_a": texts("a", 1)}, {}, "both the data set a of train"),
        ({"train": texts("a", 1), "test_set": texts("a", 1)}, {}, "name it test .*test-NAME"),
        (TWO, {"dataset_weights": {"code": 1}}, "no weight for the channel train-chat"),
        (TWO, {"dataset_weights": {"cod": 1, "chat": 1}}, "cod.*did you mean code"),
        (TWO, {"dataset_weights": {"code": 0, "chat": 1}}, r"weights.code = 0: is no weight"),
        (TWO, {"dataset_weights": {"code": -1, "chat": 1}}, "is no weight"),
        (TWO, {"dataset_weights": {"code": True, "chat": 1}}, "is no weight"),
        (TWO, {"dataset_weights": {"code": "much", "chat": 1}}, "is no weight"),
        (TWO, {"dataset_weights": '{"code": NaN, "chat": 1}'}, "is no weight"),
        (TWO, {"dataset_weights": '{"code": Infinity, "chat": 1}'}, "is no weight"),
        ({"train": texts("a", 1)}, {"dataset_weights": {"a": 1}}, "no channel holds one of sev"),
        (TWO, {"stopping_strategy": "all_exhausted"}, "there are none"),
        (TWO, {"dataset_columns": {"chit": {"a": "b"}}}, "chit.*did you mean chat"),
        (TWO, {"dataset_columns": {"chat": "text"}}, "is no renaming"),
        (TWO, {"dataset_prompt_templates": {"chat": "no column"}}, "names no column"),
        (TWO, {"dataset_prompt_templates": {"code": 3}}, "is no text"),
        (TWO, {"dataset_weights": {"code": 1e-12, "chat": 1},
               "stopping_strategy": "all_exhausted"}, "an epoch of about 3e.12 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, channels: Channels, given: dict[str, Any], message: str
) -> None:
    paths = lay(tmp_path, channels)
    with pytest.raises(UserError, match=message):
        load(paths, **given)


def test_a_channel_that_a_setting_names_is_no_data_set(tmp_path: Path) -> None:
    paths = lay(tmp_path, {"train": texts("a", 2), "train-judge": texts("b", 2)})
    data = load(paths, model_name_or_path="channel:train-judge")
    assert len(data.train) == 2


@pytest.mark.slow  # datasets takes a second to import
@settings(max_examples=12, deadline=None)
@given(
    sets=st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(st.integers(1, 30), st.floats(0.05, 20)),
        min_size=1,
    ),
    strategy=st.sampled_from(
        [None, "first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]
    ),
    seed=st.integers(0, 5),
)
def test_rows_are_drawn_as_datasets_draws_them(
    tmp_path_factory: pytest.TempPathFactory,
    sets: dict[str, tuple[int, float]],
    strategy: str | None,
    seed: int,
) -> None:
    from datasets import Dataset, interleave_datasets

    names = sorted(sets)
    channels = {f"train-{name}": texts(name, sets[name][0]) for name in names}
    paths = lay(tmp_path_factory.mktemp("job"), channels)
    weights = {name: weight for name, (_, weight) in sets.items()}
    data = load(paths, dataset_weights=weights, stopping_strategy=strategy, seed=seed)
    total = math.fsum(weights.values())
    expected = interleave_datasets(
        [Dataset.from_list(channels[f"train-{name}"]) for name in names],
        [weights[name] / total for name in names],
        seed=seed,
        stopping_strategy=strategy or "first_exhausted",
    )
    assert [row["text"] for row in data.train] == list(expected["text"])
    assert [o.channel.removeprefix("train-") for o in data.origins["train"]] == [
        row["text"][0] for row in data.train
    ]
    check_lines(data, sets)


def check_lines(data: Data, sets: dict[str, tuple[int, float]]) -> None:
    """What the log says of each data set adds up to what is drawn."""
    notes = {note.split()[2].rstrip(":"): note for note in data.notes if "data set" in note}
    assert notes.keys() == sets.keys()
    counted = 0
    for name, (size, _) in sets.items():
        own = [row["text"] for row in data.train if row["text"].startswith(name)]
        counted += len(own)
        assert f": {len(own)} of the {len(data.train)} rows of an epoch" in notes[name]
        never = size - len(set(own))
        assert (f"{never} of its rows are never read" in notes[name]) == bool(never)
    assert counted == len(data.train)


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    yield lambda: capsys.readouterr().out


def test_a_stream_keeps_its_first_rows_and_goes_over_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sm_train.data.streaming.HEAD", 2)
    rows: list[dict[str, Any]] = [*texts("a", 9), {"text": ""}]
    data = load(lay(tmp_path, {"train": rows}), streaming=True)
    assert [row["text"] for row in data.train] == ["a 0", "a 1"]
    assert data.rejected["train"] == 1
    assert any("channel train is streamed: 9 rows" in note for note in data.notes)
    assert data.stream is not None
    assert data.stream.rows == 9
    ((read, share),) = data.stream.sources
    again = [row["text"] for row, _ in zip(read(), range(20), strict=False)]
    assert again == [f"a {number % 9}" for number in range(20)]
    assert share == 1


def test_a_stream_that_is_not_counted_says_what_it_passes_over(tmp_path: Path, log: Any) -> None:
    rows: list[dict[str, Any]] = [*texts("a", 19), {"text": ""}]
    data = load(lay(tmp_path, TWO | {"train-code": rows}), streaming=True, max_steps=3,
                dataset_weights={"code": 3, "chat": 1})  # fmt: skip
    assert data.stream is not None
    assert data.stream.rows is None
    assert [share for _, share in data.stream.sources] == [0.25, 0.75]
    read = data.stream.sources[1][0]()
    log()
    assert [next(read) for _ in range(20)][-1] == {"text": "a 0"}
    assert "channel train-code: 1 bad rows were passed over: 1 × no text" in log()


def test_a_stream_of_bad_rows_ends_the_job(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*texts("a", 1000), *({"text": ""} for _ in range(500))]
    data = load(lay(tmp_path, {"train": rows}), streaming=True, max_steps=3)
    assert data.stream is not None
    read = data.stream.sources[0][0]()
    with pytest.raises(UserError, match="500 of 1500 rows of channel train are bad"):
        for _ in range(1100):
            next(read)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "kto"}, "streaming = .*Not possible with this method"),
        ({"method": "seq2seq"}, "Not possible with this method"),
        ({"method": "text-classification"}, "labels: is wanted beside streaming"),
        ({"method": "token-classification"}, "labels: is wanted beside streaming"),
        ({"method": "text-classification", "labels": "a,b", "class_weights": "balanced"},
         "class_weights = .*counts the rows of each class"),
        ({"dataset_weights": {"code": 1, "chat": 2}}, "wanted beside streaming and dataset_we"),
        ({"packing": True}, "wanted beside streaming and packing"),
        ({"method": "dpo", "precompute_ref_log_probs": True}, "goes over all rows before"),
        ({"eval_strategy": "epoch"}, "a stream has no epochs"),
        ({"train_sampling_strategy": "group_by_length"}, "orders all rows"),
        ({"streaming": False, "shuffle_buffer_size": 5}, "streaming is not set"),
        ({"max_steps": 1, "dataset_weights": {"code": 1, "chat": 2},
          "stopping_strategy": "all_exhausted"}, "begins each data set again"),
    ],
)  # fmt: skip
def test_what_no_stream_can_do_is_refused(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    paths = lay(tmp_path, TWO)
    with pytest.raises(UserError, match=message):
        load(paths, **{"streaming": True, **given})


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_files_that_are_read_as_a_whole_are_refused(tmp_path: Path, ending: str) -> None:
    paths = lay(tmp_path, {"train": texts("a", 3)}, ending)
    with pytest.raises(UserError, match=f"read as a whole: data.{ending}.*remove streaming"):
        load(paths, streaming=True)
