from __future__ import annotations

import io

import pytest

from sm_launch.data.tabular import Record, TabularReader


def records(text: str, delimiter: str = ",", *, quoted: bool = True) -> list[Record]:
    reader = TabularReader(io.StringIO(text, newline=""), delimiter, quoted=quoted)
    rows = []
    for record in reader:
        reader.width = reader.width or len(record.cells or [])
        rows.append(record)
    return rows


def cells(text: str, delimiter: str = ",", *, quoted: bool = True) -> list[list[str] | None]:
    return [record.cells for record in records(text, delimiter, quoted=quoted)]


def test_quotes_delimiters_and_line_breaks_in_cells() -> None:
    assert cells('a,b\n"x, ""y""\nz",1\n\n2,3\n') == [
        ["a", "b"],
        ['x, "y"\nz', "1"],
        ["2", "3"],
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_numbers_count_physical_lines(newline: str) -> None:
    text = newline.join(["a,b", '"x', 'y",1', "z,2", ""])
    assert [record.line for record in records(text)] == [1, 2, 4]


@pytest.mark.parametrize(
    "next_line",
    ['3,"quoted, well",x', "3,unquoted,x", '3,"a ""doubled"" quote",x'],
)
def test_an_unclosed_quote_spoils_only_its_own_line(next_line: str) -> None:
    rows = records(f'id,text,label\n1,ok,x\n2,"broken,x\n{next_line}\n4,ok,x\n')
    assert [record.line for record in rows if record.cells is None] == [3]
    assert [record.cells[0] for record in rows if record.cells] == ["id", "1", "3", "4"]


def test_an_unclosed_quote_at_the_end() -> None:
    rows = records('a,b\n1,2\n3,"x')
    assert rows[-1].cells is None
    assert rows[-1].raw == '3,"x'


def test_wrong_number_of_cells() -> None:
    rows = records("a,b\n1,2,3\n4,5\n6\n")
    assert [record.cells for record in rows] == [["a", "b"], None, ["4", "5"], None]
    assert rows[1].problem == "3 cells instead of 2"


@pytest.mark.parametrize(
    "lines",
    [
        ["\"it's a charm\t1", 'a "fine" film\t0', 'the end"\t1'],
        ['"quoted" start\t1', "plain\t0"],
        ["\" spaced quotes \"'' here\t1", "plain\t0"],
    ],
)
def test_tab_separated_text_with_stray_quotes_loses_no_row(lines: list[str]) -> None:
    rows = cells("sentence\tlabel\n" + "\n".join(lines) + "\n", "\t")
    assert len(rows) == len(lines) + 1
    assert [row[1] for row in rows[1:] if row] == [line[-1] for line in lines]


def test_tab_separated_text_may_be_quoted_all_the_same() -> None:
    assert cells('a\tb\n"x\ty"\t1\n', "\t") == [["a", "b"], ["x\ty", "1"]]


def test_quoting_none_leaves_quotes_alone() -> None:
    assert cells('a,b\n"x,1\n', quoted=False) == [["a", "b"], ['"x', "1"]]
