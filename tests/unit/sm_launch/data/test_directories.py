"""Several files under one name, Hugging Face data sets on disk, plain text, the data card."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sm_launch.data.guess import guess
from sm_launch.errors import UserInputError

COLUMNS = {"text": "text", "label": "label"}


def reviews(start: int, count: int) -> list[dict[str, object]]:
    return [{"text": f"review {n}", "label": n % 2} for n in range(start, start + count)]


def test_shards_of_one_format(tmp_path: Path, run) -> None:
    shards = tmp_path / "shards"
    (shards / "deep").mkdir(parents=True)
    for at, name in enumerate(("a.jsonl", "deep/b.jsonl")):
        lines = "".join(json.dumps(row) + "\n" for row in reviews(at * 20, 20))
        (shards / name).write_text(lines)
    (shards / ".hidden.jsonl").write_text("not read\n")
    done = run(input="shards")
    assert done.report.rows_kept == 40
    assert {name: source.rows for name, source in done.report.inputs.items()} == {
        "input/a.jsonl": 20,
        "input/deep/b.jsonl": 20,
    }
    (shards / "c.csv").write_text("text,label\nx,1\n")
    with pytest.raises(UserInputError, match="several formats"):
        run(input="shards")
    assert run(input="shards", format="jsonl").report.rows_kept == 40


def test_a_data_set_saved_to_disk(tmp_path: Path, run) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict

    made = Dataset.from_list(reviews(0, 60)).cast_column("label", ClassLabel(names=["bad", "good"]))
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    done = run(input="one")
    assert done.report.rows_kept == 60
    assert done.report.labels == ["bad", "good"]
    DatasetDict(train=made.select(range(40)), test=made.select(range(40, 60))).save_to_disk(
        str(tmp_path / "two")
    )
    with pytest.raises(UserInputError, match="split already, into train, test") as caught:
        run(input="two")
    assert "data.train: two/train" in str(caught.value)
    split = run(train="two/train", test="two/test")
    assert split.report.splits["test"].rows == 20


def test_plain_text_is_a_document_a_line(write, run) -> None:
    write("docs.txt", "\n".join(f"A document, with a tab\t{n}" for n in range(30)) + "\n\n")
    done = run(input="docs.txt", task="text")
    assert done.report.rows_kept == 30
    assert done.rows("train")[0]["text"].startswith("A document, with a tab\t")


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Void elements."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_data_card(write, run) -> None:
    evil = "<script>x</script>"
    lines = [f"review {n},{'good' if n % 3 else evil}" for n in range(90)] + ["review 1,good", ",x"]
    write("rows.csv", "\n".join(["text,label", *lines]) + "\n")
    done = run(input="rows.csv")
    html = (done.report.output / "data_card.html").read_text()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert evil not in html
    for phrase in ("Shares of the classes", "missing_text", "duplicate", "rows.csv", "Lengths"):
        assert phrase in html
    assert done.report.splits["train"].sha256[:16] in html
    before = html
    assert (run(input="rows.csv").report.output / "data_card.html").read_text() == before


def test_the_data_card_without_labels(write, run) -> None:
    write("docs.txt", "\n".join(f"document {n}" for n in range(30)))
    html = (run(input="docs.txt", task="text").report.output / "data_card.html").read_text()
    assert "Classes" not in html
    assert "Lengths" in html


def test_a_folder_of_texts_for_each_class(write, run, tmp_path: Path) -> None:
    """As IMDb's reviews and 20 Newsgroups; one file is no UTF-8."""
    for label in ("pos", "neg", "unsup"):
        for number in range(6):
            file = tmp_path / "set" / label / f"{number}_9"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(f"{label} film {number}\ncaf\xe9".encode("latin-1"))
    write("set/urls_pos.txt", "http://example.org\n")
    done = run(input="set", format="folders", split={"train": 1, "validation": 0, "test": 0})
    counts = Counter(row["label"] for row in done.all_rows)
    assert counts == {"pos": 6, "neg": 6, "unsup": 6}
    assert "pos film 3 café" in {row["text"] for row in done.all_rows}
    two = run(input="set", format="folders", labels=["neg", "pos"], max_rejected_share=0.4)
    assert two.report.rejected == {"unknown_label": 6}
    with pytest.raises(UserInputError) as refused:
        run(input="set")
    assert "set data.format: folders" in str(refused.value.fix)
    with pytest.raises(UserInputError, match="no directory with a folder of texts"):
        run(input="set/urls_pos.txt", format="folders")
    assert guess("text-classification", "set", tmp_path).format == "folders"
