"""Which words of a label column mean missing, how labels are spelt, and which look like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_launch.data.settle import settle
from sm_launch.data.spelling import near_spellings
from sm_launch.job.data import DataConfig


def settled(counts: dict[str, int], **data: Any):
    return settle(counts, DataConfig.model_validate({"input": "x.csv"} | data), declared=False)


@pytest.mark.parametrize(
    "counts",
    [
        {"EU": 40, "US": 50, "NA": 5},  # 5 of 95
        {"DE": 900, "FR": 900, "US": 900, "NA": 1},  # Namibia, among other codes
        {"+": 500, "?": 500, "-": 1},
        {"food": 40, "price": 30, "none": 60},
        {f"topic {n}": 10 for n in range(100)} | {"none": 8},  # as frequent as the others
    ],
)
def test_a_word_that_looks_like_the_other_labels_is_a_class(counts: dict[str, int]) -> None:
    outcome = settled(counts)
    assert not outcome.missing
    assert len(outcome.classes) >= 1


@pytest.mark.parametrize(
    ("counts", "gaps"),
    [
        ({"good": 500, "bad": 400, "NA": 3, "na": 1}, {"NA": 4}),
        ({"good": 500, "bad": 400, "-": 3, "none": 2}, {"-": 3, "none": 2}),
        ({"1": 50, "0": 40, "nan": 30}, {"nan": 30}),  # no person calls a class so
        ({"yes": 50, "no": 40, "#N/A": 9}, {"#N/A": 9}),
        ({"good": 900, "bda": 1, "bad": 900, "NA": 3}, {"NA": 3}),  # a typo lowers no bar
    ],
)
def test_a_word_in_another_column_means_missing(counts, gaps: dict[str, int]) -> None:
    assert settled(counts).gaps == gaps


def test_words_that_job_yaml_names_mean_missing_always() -> None:
    outcome = settled({"EU": 40, "US": 50, "NA": 50}, missing={"values": ["", "na"]})
    assert outcome.gaps == {"NA": 50}


@given(st.dictionaries(st.text("aAbB ", min_size=1).map(str.strip).filter(bool), st.integers(1, 9)))
def test_every_spelling_becomes_the_most_frequent_of_its_label(counts: dict[str, int]) -> None:
    final = settled(counts).final
    for spelling, label in final.items():
        same = {other for other in counts if other.casefold() == spelling.casefold()}
        folded = {other for other in same if " ".join(other.split()) == other}
        assert label in same or label in final.values()
        assert all(final[other] == label for other in folded & {spelling})
        assert counts[label] == max(counts[other] for other in final if final[other] == label)


def test_labels_keep_their_most_frequent_spelling_in_the_channels(run, write) -> None:
    labels = ["EU", "US", "us", "US ", "Eu", "EU"]
    write("a.csv", "text,label\n" + "".join(f"row {n},{labels[n % 6]}\n" for n in range(60)))
    done = run(input="a.csv")
    assert {row["label"] for row in done.all_rows} == {"EU", "US"}
    assert done.report.labels == ["EU", "US"]
    assert "label 'US' is also spelt 'us' (10 rows)" in done.report.notes


def test_what_was_taken_for_missing_is_said_with_counts(run, write) -> None:
    rows = "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(200))
    write("a.csv", f"text,label\n{rows}N/A,a\nthis,NA\nthat,none\nmore,NA\n")
    done = run(input="a.csv")
    assert done.report.taken_for_missing == {"label": {"NA": 2, "none": 1}, "text": {"N/A": 1}}
    assert done.report.rejected == {"missing_label": 3, "missing_text": 1}
    assert "taken for missing in label: 'NA' 2, 'none' 1" in done.report.render()
    assert [row["row"] for row in done.rejected] == [201, 202, 203, 204]


def test_a_late_gap_counts_as_a_bad_row(run, write, tmp_path: Path) -> None:
    from sm_launch.errors import UserInputError

    rows = "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40))
    write("a.csv", f"text,label\n{rows}" + "".join(f"gap {n},nan\n" for n in range(20)))
    with pytest.raises(UserInputError, match=r"missing_label: 20, e\.g\. row 41 of a\.csv"):
        run(input="a.csv", max_rejected_share=0.1)
    left = (tmp_path / "out.rejected.jsonl").read_text().splitlines()
    assert len(left) == 20


def test_gaps_can_be_filled(run, write) -> None:
    rows = "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40))
    write("a.csv", f"text,label\n{rows}gap,NaN\n")
    done = run(input="a.csv", missing={"policy": "fill", "label": "a"})
    assert {"text": "gap", "label": "a"} in done.all_rows


def test_an_answer_of_one_word_is_an_answer(run, write) -> None:
    lines = [
        f'{{"prompt": "q{n}", "completion": "{w}"}}' for n, w in enumerate(["None", "-", "NA"])
    ]
    write("a.jsonl", "\n".join(lines))
    done = run(input="a.jsonl", task="sft", split={"train": 1, "validation": 0, "test": 0})
    assert sorted(row["completion"] for row in done.all_rows) == ["-", "NA", "None"]


@pytest.mark.parametrize("columns", [{"text_pair": "hypothesis"}, {"keep": ["hypothesis"]}])
def test_pairs_are_equal_where_both_texts_are(run, write, columns: dict[str, Any]) -> None:
    rows = [f"premise {n // 3},Hypothesis {n},{'eno'[n % 3]}\n" for n in range(90)]
    write("a.csv", "text,hypothesis,label\n" + "".join([*rows, "PREMISE 0,hypothesis  0,e\n"]))
    done = run(input="a.csv", columns=columns)
    assert done.report.rejected == {"duplicate": 1}
    pairs = {tuple(row.values())[:-1] for row in done.all_rows}
    assert len(pairs) == len(done.all_rows) == 90


def test_pairs_that_are_nearly_equal(run, write) -> None:
    long = "a long premise that many hypotheses share as in natural language inference"
    rows = [
        f"{long},the answer to this is number {'abcdefghij'[n] * 9},{'xy'[n % 2]}\n"
        for n in range(10)
    ]
    write(
        "a.csv",
        "text,text_pair,label\n"
        + "".join(rows)
        + f"{long}.,The answer to this is number aaaaaaaaa,x\n",
    )
    done = run(
        input="a.csv",
        columns={"text_pair": "text_pair"},
        duplicates={"near": 0.9},
        split={"train": 1, "validation": 0, "test": 0},
    )
    assert done.report.rejected == {"near_duplicate": 1}


@pytest.mark.parametrize(
    "labels",
    [
        ["very positive", "very-positive", "Very_Positive", "very positive!", "very  positives"],
        ["category", "categories"],
        ["électronique", "electronique"],
        ["U.S.", "US"],
    ],
)
def test_spellings_of_one_label_are_found(labels: list[str]) -> None:
    (spelling,) = near_spellings(dict.fromkeys([*labels, "other"], 10))
    assert all(repr(label) in spelling for label in labels)
    assert "'other'" not in spelling


def test_a_rare_typo_is_found() -> None:
    (spelling,) = near_spellings({"positive": 500, "negative": 400, "postive": 3})
    assert "'positive' (500 rows), 'postive' (3 rows)" in spelling


@pytest.mark.parametrize(
    "labels",
    [
        {"positive": 500, "negative": 400, "neutral": 3},
        {"1": 5, "-1": 5, "1.5": 5, "15": 5},
        {"+": 5, "-": 5, "C": 5, "C++": 5, "C#": 5},
        {"happy": 500, "unhappy": 3},
        {"class1": 500, "class2": 4, "class10": 3},
        {"car": 100, "cat": 5},
    ],
)
def test_other_labels_are_left_alone(labels: dict[str, int]) -> None:
    assert near_spellings(labels) == []
