from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sm_launch.data.read import read
from sm_launch.data.sources import locate

from .conftest import read_jsonl


def texts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["text"] for row in rows}


def test_every_row_is_in_a_channel_or_in_quarantine(run, write) -> None:
    write(
        "raw.csv",
        "id,review,mood\n1,<b>Fine</b> film,Pos\n2,,pos\n3,fine  FILM,pos\n4,odd,meh\n5,a,b,c,d\n"
        + "".join(f"{n},text {n},{'pos' if n % 2 else 'NEG'}\n" for n in range(6, 30)),
    )
    done = run(
        input="raw.csv",
        columns={"text": "review", "label": "mood"},
        label_map={"pos": "positive", "neg": "negative"},
    )
    assert [(row["row"], row["line"], row["reason"]) for row in done.rejected] == [
        (2, 3, "missing_text"),
        (3, 4, "duplicate"),
        (4, 5, "unknown_label"),
        (5, 6, "malformed_row"),
    ]
    assert done.rejected[1]["raw"] == {"id": "3", "review": "fine  FILM", "mood": "pos"}
    assert done.report.rows_read == done.report.rows_kept + done.report.rows_rejected == 29
    assert texts(done.all_rows) == {"Fine film"} | {f"text {n}" for n in range(6, 30)}
    assert {row["label"] for row in done.all_rows} == {"positive", "negative"}


def test_manifest_tells_counts_digests_and_configuration(run, reviews: Path) -> None:
    done = run(input="reviews.csv", split={"seed": 7})
    manifest = json.loads((done.report.output / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert manifest["splits"]["train"]["path"] == "train/train.jsonl"
    assert manifest["splits"]["train"]["labels"] == {"neg": 32, "pos": 48}
    assert manifest["splits"]["test"]["sha256"] == done.report.splits["test"].sha256
    assert manifest["inputs"]["input"]["rows"] == 100
    assert sum(manifest["splits"]["train"]["characters_histogram"]) == 80
    assert manifest["config"]["split"]["seed"] == 7


def test_a_notebook_shows_the_channels_on_one_screen(run, reviews: Path) -> None:
    html = run(input="reviews.csv").report._repr_html_()
    assert "100 rows read" in html
    assert all(part in html for part in ("train", "80", "pos 48", "neg 32", "99 %"))
    assert html.count("\n") < 30


@pytest.mark.slow
def test_two_runs_and_any_number_of_workers_write_the_same_bytes(run, reviews: Path) -> None:
    first = run(input="reviews.csv", workers=1).report
    manifest = (first.output / "manifest.json").read_bytes()
    second = run(input="reviews.csv", workers=2).report
    assert second.splits == first.splits
    assert (second.output / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("suffix", ["tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(run, write, reviews: Path, tmp_path, suffix) -> None:
    expected = run(input="reviews.csv").all_rows
    rows = [line.split(",") for line in reviews.read_text().splitlines()[1:]]
    objects = [{"text": text, "label": label} for text, label in rows]
    if suffix == "tsv":
        write("r.tsv", "text\tlabel\n" + "\n".join("\t".join(row) for row in rows))
    elif suffix == "json":
        write("r.json", json.dumps(objects))
    elif suffix == "jsonl":
        write("r.jsonl", "\n".join(map(json.dumps, objects)))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(objects), tmp_path / "r.parquet")
    assert run(input=f"r.{suffix}").all_rows == expected


@pytest.mark.parametrize("output_format", ["parquet", "csv"])
def test_written_formats_can_be_read_again(run, reviews: Path, tmp_path, output_format) -> None:
    expected = run(input="reviews.csv").all_rows
    report = run(input="reviews.csv", output_format=output_format).report
    from sm_launch.job.data import DataConfig

    rows = []
    for split in report.splits.values():
        config = DataConfig(input=str(split.path))
        (source,) = locate(config, base=tmp_path, fetch=Path, scratch=tmp_path)
        for chunk in read(source, config):
            rows += [chunk.raw(at) for at in range(len(chunk.rows))]
    assert rows == expected


def test_ready_splits_without_header_and_with_number_labels(run, write) -> None:
    """The shape of the public sentence-sentiment sets: two columns, no header, labels 0 and 1."""
    for name, count in (("train", 60), ("dev", 10), ("test", 10)):
        write(f"{name}.tsv", "".join(f'{name} "is {n} \t{n % 2}\n' for n in range(count)))
    done = run(
        train="train.tsv", validation="dev.tsv", test="test.tsv", header=False,
        columns={"text": 0, "label": 1}, label_map={0: "negative", 1: "positive"},
    )  # fmt: skip
    assert {name: split.rows for name, split in done.report.splits.items()} == {
        "train": 60,
        "validation": 10,
        "test": 10,
    }
    assert done.rows("test")[1] == {"text": 'test "is 1', "label": "positive"}


def test_missing_validation_is_carved_out_of_train_and_leaks_go(run, write) -> None:
    write("train.csv", "text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(40)))
    write("test.csv", "text,label\n T3 ,b\nT3,b\nnew,a\n")
    done = run(train="train.csv", test="test.csv")
    assert [row["text"] for row in done.rows("test")] == ["T3", "T3", "new"]
    assert len(done.rows("validation")) == 4
    assert [(row["reason"], row["raw"]["text"]) for row in done.rejected] == [("leak", "t3")]
    assert not texts(done.rows("train")) & texts(done.rows("validation"))


def test_conflicting_labels_follow_the_majority(run, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write("same,pos\nSame,pos\nSAME,neg\ntie,pos\ntie,neg\n")
    done = run(input="reviews.csv")
    kept = {row["text"]: row["label"] for row in done.all_rows}
    assert kept["same"] == "pos"
    assert "tie" not in kept
    assert done.report.rejected == {"conflicting_labels": 3, "duplicate": 1}


def test_missing_values_can_be_filled(run, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write("no label,\n,neg\n")
    done = run(input="reviews.csv", missing={"policy": "fill", "label": "pos"})
    assert {"text": "no label", "label": "pos"} in done.all_rows
    assert done.report.rejected == {"missing_text": 1}


def test_length_limits(run, reviews: Path) -> None:
    with reviews.open("a") as file:
        file.write(f"x,pos\n{'y' * 50},neg\n")
    limits = {"min_characters": 2, "max_characters": 40}
    assert run(input="reviews.csv", length=limits).report.rejected == {
        "too_short": 1,
        "too_long": 1,
    }
    cut = run(input="reviews.csv", length=limits | {"too_long": "truncate"})
    assert "y" * 40 in texts(cut.all_rows)


def test_groups_do_not_cross_splits(run, write) -> None:
    rows = "".join(f"text {n},{'ab'[n % 2]},user{n // 4}\n" for n in range(200))
    write("r.csv", "text,label,user\n" + rows)
    done = run(input="r.csv", split={"group": "user"}, columns={"keep": ["user"]})
    users = [{row["user"] for row in done.rows(split)} for split in done.report.splits]
    assert len(users) == 3
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]


def test_time_split_rejects_rows_without_a_time(run, write) -> None:
    rows = "".join(f"text {n},{'ab'[n % 2]},2024-01-01T00:{n:02}:00\n" for n in range(50))
    write("r.csv", "text,label,at\n" + rows + "late,a,yesterday\n")
    done = run(input="r.csv", split={"time": "at"})
    assert texts(done.rows("test")) == {f"text {n}" for n in range(45, 50)}
    assert done.report.rejected == {"invalid_time": 1}


def test_broken_encoding_is_read_as_cp1252(run, reviews: Path) -> None:
    with reviews.open("ab") as file:
        file.write(b"caf\xe9 cr\xe8me,pos\n")
    assert "café crème" in texts(run(input="reviews.csv").all_rows)


def test_utf16_with_a_byte_order_mark(run, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(reviews.read_text(), encoding="utf-16")
    assert run(input="wide.csv").all_rows == run(input="reviews.csv").all_rows


def test_prompt_completion_keeps_line_breaks(run, write) -> None:
    rows = [{"prompt": f"Do {n}:\n  x", "completion": f"<b>{n}</b>  "} for n in range(20)]
    rows.append({"prompt": "nothing follows", "completion": ""})
    write("r.jsonl", "\n".join(map(json.dumps, rows)))
    done = run(input="r.jsonl", task="prompt-completion")
    assert {"prompt": "Do 3:\n  x", "completion": "<b>3</b>"} in done.all_rows
    assert done.report.rejected == {"missing_completion": 1}


def test_messages_are_checked(run, write) -> None:
    def talk(*roles: str) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": f"{role} says"} for role in roles]}

    good = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}
        for n in range(20)
    ]
    bad = [talk("user"), talk("user", "robot"), talk("user", "system", "assistant"), {"x": 1}]
    write("r.jsonl", "\n".join(map(json.dumps, good + bad)))
    done = run(input="r.jsonl", task="messages", output_format="parquet")
    assert done.report.rows_kept == 20
    assert done.report.rejected == {"invalid_messages": 3, "missing_messages": 1}


def test_s3_goes_through_the_function_given(run, reviews: Path) -> None:
    asked = []

    def fetch(uri: str) -> Path:
        asked.append(uri)
        return reviews

    assert run(input="s3://bucket/reviews.csv", fetch=fetch).report.rows_kept == 100
    assert asked == ["s3://bucket/reviews.csv"]


def test_too_many_bad_rows_fail_with_examples_and_leave_the_old_output(run, reviews: Path) -> None:
    from sm_launch.errors import UserInputError

    old = run(input="reviews.csv").report.output / "manifest.json"
    before = old.read_bytes()
    with reviews.open("a") as file:
        file.write(",pos\n" * 30 + "only one cell\n")
    with pytest.raises(UserInputError) as caught:
        run(input="reviews.csv", max_rejected_share=0.2)
    message = str(caught.value)
    assert "31 of 131 rows (23.7%) are bad" in message
    assert "missing_text: 30, e.g. row 101 of reviews.csv" in message
    assert "malformed_row: 1, e.g. row 131 of reviews.csv" in message
    assert old.read_bytes() == before
    left = sorted(path.name for path in reviews.parent.iterdir())
    assert left == ["out", "out.rejected.jsonl", "reviews.csv"]
    assert len(read_jsonl(reviews.parent / "out.rejected.jsonl")) == 31
