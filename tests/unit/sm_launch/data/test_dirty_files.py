"""Files as people send them: each is read to exactly its rows, or refused or set aside with a fix.

A case is a file, the rows it holds, and how many rows are set aside for which reason; or the words
of the refusal. Nothing may come out that stands in neither.
"""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sm_launch.errors import UserInputError

ROWS = [("good café", "pos"), ("bad “film”", "neg"), ("so 東京", "pos"), ("meh", "neg")]
CLEAN = [("good café", "pos"), ('bad "film"', "neg"), ("so 東京", "pos"), ("meh", "neg")]
LATIN = [("good café", "pos"), ("bad naïve", "neg"), ("meh", "neg")]


class Case(NamedTuple):
    name: str
    content: bytes
    rows: list[tuple[Any, Any]] | None = None
    rejected: dict[str, int] = {}  # noqa: RUF012
    refused: tuple[str, ...] = ()
    data: dict[str, Any] = {}  # noqa: RUF012
    notes: str = ""


def table(rows=ROWS, delimiter=",", end="\n", header="text,label") -> str:
    lines = [header.replace(",", delimiter)] if header else []
    return end.join([*lines, *(delimiter.join(row) for row in rows), ""])


def objects(rows=ROWS) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in rows]


def lines(rows=ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects(rows))


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__SLASH__", "/").replace("__DOT__", "."), content)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    return zipped(**members)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def arrow_twice() -> bytes:
    buffer = io.BytesIO()
    names = ["text", "label", "text"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=names), buffer)
    return buffer.getvalue()


def zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()


CSV = table().encode()
JSONL = lines().encode()
T1, T2 = datetime.datetime(2024, 5, 1, 12, 30), datetime.datetime(2024, 5, 2)
PRICES = "text;price;label\nthe red one;1,50;pos\nthe blue, one;2,75;neg\n"

CASES = [
    # Encodings
    Case("bom.csv", b"\xef\xbb\xbf" + CSV, CLEAN),
    Case("bom.jsonl", b"\xef\xbb\xbf" + JSONL, CLEAN),
    Case("bom.json", b"\xef\xbb\xbf" + json.dumps(objects()).encode(), CLEAN),
    Case("utf16.csv", table().encode("utf-16"), CLEAN),
    Case("utf16be.csv", b"\xfe\xff" + table().encode("utf-16-be"), CLEAN),
    Case("utf16.jsonl", lines().encode("utf-16"), CLEAN),
    Case("utf32.csv", table().encode("utf-32"), CLEAN),
    Case("utf16_bare.csv", table().encode("utf-16-le"), refused=("not text", "utf-16-le")),
    Case("utf16_odd.csv", table().encode("utf-16")[:-1], refused=("encoding",)),
    Case("latin1.csv", table(LATIN).encode("latin-1"), LATIN, notes="2 line(s) are not UTF-8"),
    Case("latin1.jsonl", lines(LATIN).encode("latin-1"), LATIN, notes="not UTF-8"),
    Case(
        "latin1.json",
        json.dumps(objects(LATIN), ensure_ascii=False).encode("latin-1"),
        LATIN,
        notes="not UTF-8",
    ),
    Case(
        "latin1_label.csv",
        "text,label\na,été\nb,été\nc,hiver\n".encode("latin-1"),
        [("a", "été"), ("b", "été"), ("c", "hiver")],
    ),
    Case(
        "latin1_header.csv",
        "größe,label\na,x\nb,y\n".encode("latin-1"),
        [("a", "x"), ("b", "y")],
        data={"columns": {"text": "größe"}},
    ),
    Case(
        "no_encoding.csv",
        b"text,label\na \x81 b,x\nfine,x\nother,y\n",
        [("fine", "x"), ("other", "y")],
        {"undecodable": 1},
    ),
    # Line ends and separators
    Case("cr.csv", table(end="\r").encode(), CLEAN),
    Case("crlf.csv", table(end="\r\n").encode(), CLEAN),
    Case("cr.jsonl", lines().replace("\n", "\r").encode(), CLEAN),
    Case("crlf.jsonl", lines().replace("\n", "\r\n").encode(), CLEAN),
    Case(
        "u2028.jsonl",
        lines([("one\u2028two", "x"), ("a\u2029b", "y"), ("c\x1cd", "y")]).encode(),
        [("one two", "x"), ("a b", "y"), ("cd", "y")],
    ),
    Case("no_last_line_end.csv", CSV.rstrip(b"\n"), CLEAN),
    Case("blank_lines.csv", CSV.replace(b"\n", b"\n\n"), CLEAN),
    Case("blank_lines.jsonl", b"\n\n" + JSONL.replace(b"\n", b"\n \n"), CLEAN),
    Case(
        "semicolon.csv",
        PRICES.encode(),
        [("the red one", "pos"), ("the blue, one", "neg")],
        notes="price",
    ),
    Case("tabs.csv", table(delimiter="\t").encode(), CLEAN),
    Case("pipes.csv", table(delimiter="|").encode(), CLEAN),
    Case("commas.tsv", CSV, CLEAN),
    Case("sep.csv", b"sep=;\r\n" + table(delimiter=";", end="\r\n").encode(), CLEAN),
    Case("sep_bom.csv", b'\xef\xbb\xbf"sep=;"\n' + table(delimiter=";").encode(), CLEAN),
    Case("caret.csv", table(delimiter="^").encode(), refused=("no such column", "data.delimiter")),
    # Quotes and cells
    Case(
        "quotes.csv",
        b'text,label\n"a ""b"", c\nd",x\n"e,f",y\n',
        [('a "b", c d', "x"), ("e,f", "y")],
    ),
    Case(
        "open_quote.csv",
        b'text,label\n"never closed,x\nb,y\nc,x\n',
        [("b", "y"), ("c", "x")],
        {"malformed_row": 1},
    ),
    Case(
        "ragged.csv",
        b"text,label\na,x\nb\nc,y,z\nd,y\n",
        [("a", "x"), ("d", "y")],
        {"malformed_row": 2},
    ),
    Case("trailing_commas.csv", b"text,label\na,x,\nb,y,,\n", [("a", "x"), ("b", "y")]),
    Case("trailing_everywhere.csv", b"text,label,,\na,x,,\nb,y,,\n", [("a", "x"), ("b", "y")]),
    Case("index.csv", b",text,label\n0,a,x\n1,b,y\n", [("a", "x"), ("b", "y")]),
    Case("twice.csv", b"text,label,text\na,x,b\n", refused=("stand twice", "text")),
    Case("twice_in_blanks.csv", b"text,label, text\na,x,b\n", refused=("stand twice", "text")),
    Case("headerless.csv", b"a,x\nb,y\n", refused=("no such column", "header: false")),
    Case(
        "headerless_said.csv",
        b"a,x\nb,y\n",
        [("a", "x"), ("b", "y")],
        data={"header": False, "columns": {"text": 0, "label": 1}},
    ),
    Case(
        "headerless_by_index.csv",
        b"a,x\nb,y\nc,x\n",
        refused=("data.header",),
        data={"columns": {"text": 0, "label": 1}},
    ),
    Case(
        "headerless_semicolon.csv",
        b"a, well;x\nb;y\n",
        [("a, well", "x"), ("b", "y")],
        data={"header": False, "columns": {"text": 0, "label": 1}},
    ),
    Case(
        "headerless_either.csv",
        b"1,5;x\n2,7;y\n",
        refused=("data.delimiter",),
        data={"header": False, "columns": {"text": 0, "label": 1}},
    ),
    Case(
        "huge_cell.csv",
        b"text,label\n" + b"a" * (17 << 20) + b",x\nb,y\nc,x\n",
        [("b", "y"), ("c", "x")],
        {"malformed_row": 1},
    ),
    Case("nul.csv", b"text,label\na\0b,x\0\nc,y\n", [("ab", "x"), ("c", "y")]),
    Case("nul_tail.jsonl", JSONL + b"\0" * 8, CLEAN, {"malformed_row": 1}),
    Case(
        "excel_errors.csv",
        b"text,label\n#VALUE!,x\na,x\nb,#N/A\nc,y\n",
        [("a", "x"), ("c", "y")],
        {"missing_text": 1, "missing_label": 1},
    ),
    # Nothing in it
    Case("empty.csv", b"", refused=("empty",)),
    Case("empty.json", b"", refused=("empty",)),
    Case("blank.csv", b"\n\n \n", refused=("data.input",)),
    Case("blank.jsonl", b"\n\n", refused=("no rows",)),
    Case("header_only.csv", b"text,label\n", refused=("no rows",)),
    Case("empty_array.json", b"[]", refused=("no rows",)),
    Case("only_bom.csv", b"\xef\xbb\xbf", refused=("data.input",)),
    # JSON
    Case("array.json", json.dumps(objects(), indent=2).encode(), CLEAN),
    Case("array.jsonl", json.dumps(objects(), indent=1).encode(), CLEAN),
    Case("array_in_a_line.jsonl", json.dumps(objects()).encode(), CLEAN),
    Case("concatenated.json", b"".join(json.dumps(row).encode() for row in objects()), CLEAN),
    Case(
        "pretty.jsonl", b"\n".join(json.dumps(row, indent=2).encode() for row in objects()), CLEAN
    ),
    Case("wrapped.json", json.dumps({"version": 1, "data": objects()}).encode(), CLEAN),
    Case("lines.json", JSONL, CLEAN),
    Case("comments.jsonl", b"// rows\n" + JSONL + b"# end\n", CLEAN, {"malformed_row": 2}),
    Case("comments.json", b'[ // rows\n{"text": "a", "label": "x"}]', refused=("not valid JSON",)),
    Case("trailing_comma.json", b'[{"text": "a", "label": "x"},]', refused=("not valid JSON",)),
    Case("cut.json", json.dumps(objects()).encode()[:-9], refused=("not valid JSON",)),
    Case("cut.jsonl", JSONL[:-9], CLEAN[:-1], {"malformed_row": 1}),
    Case("first_bad.jsonl", b'{"text": "a", "label": }\n' + JSONL, CLEAN, {"malformed_row": 1}),
    Case(
        "by_column.json",
        json.dumps({"text": {"0": "a"}, "label": {"0": "x"}}).encode(),
        refused=("invalid_text",),
    ),
    Case(
        "nan.jsonl",
        JSONL + b'{"text": NaN, "label": "pos"}\n{"text": "q", "label": NaN}\n',
        CLEAN,
        {"missing_text": 1, "missing_label": 1},
    ),
    Case(
        "infinity.jsonl",
        JSONL + b'{"text": "q", "label": Infinity}\n{"text": 1e999, "label": "x"}\n',
        CLEAN,
        {"malformed_row": 1, "invalid_text": 1},
    ),
    Case(
        "key_twice.jsonl",
        JSONL + b'{"text": "a", "text": "b", "label": "pos"}\n',
        CLEAN,
        {"malformed_row": 1},
    ),
    Case(
        "key_twice.json",
        b'[{"text": "a", "text": "b", "label": "pos"}]',
        refused=("'text' stands twice",),
    ),
    Case("deep.jsonl", JSONL + b'{"text": ' + b"[" * 100_000 + b"\n", CLEAN, {"malformed_row": 1}),
    Case(
        "half_a_character.jsonl",
        JSONL + b'{"text": "a\\ud83d", "label": "pos"}\n',
        CLEAN,
        {"undecodable": 1},
    ),
    Case("scalars.jsonl", JSONL + b'"text"\n7\nnull\n["a", "pos"]\n', CLEAN, {"malformed_row": 4}),
    Case(
        "mixed_types.jsonl",
        JSONL + b'{"text": ["a"], "label": "pos"}\n{"text": {}, "label": "neg"}\n',
        CLEAN,
        {"invalid_text": 2},
    ),
    Case(
        "numbers.jsonl",
        b"".join(
            b'{"text": "t%d", "label": %s}\n' % (n, label)
            for n, label in enumerate([b"1", b"1.0", b'"1"', b"true", b"0", b"false"])
        ),
        [("t0", "1"), ("t1", "1"), ("t2", "1"), ("t3", "true"), ("t4", "0"), ("t5", "false")],
    ),
    Case(
        "list_labels.jsonl",
        JSONL + b'{"text": "a", "label": ["pos", "neg"]}\n',
        CLEAN,
        {"invalid_label": 1},
    ),
    Case(
        "list_labels.csv",
        b"text,label\na,\"['x', 'y']\"\nb,x\nc,y\n",
        [("b", "x"), ("c", "y")],
        {"invalid_label": 1},
    ),
    Case(
        "dotted.jsonl",
        b'{"row": {"text": "a"}, "label": "x"}\n{"row": {"text": "b"}, "label": "y"}\n',
        [("a", "x"), ("b", "y")],
        data={"columns": {"text": "row.text"}},
    ),
    Case(
        "scores.csv",
        table([(f"t{n}", f"{n % 20 / 7:.2f}") for n in range(200)]).encode(),
        refused=("a number to predict",),
    ),
    Case(
        "header_again.csv",
        CSV + CSV.replace(b"meh", b"more"),
        [*CLEAN, ("more", "neg")],
        {"malformed_row": 1, "duplicate": 3},
    ),
    Case("excel_text.csv", b'text,label\n="001",x\nb,y\n', [("001", "x"), ("b", "y")]),
    Case("cyrillic.csv", "text,label\nпривет,x\nмир,y\n".encode("cp1251"), refused=("cp1251",)),
    Case(
        "cyrillic_said.csv",
        "text,label\nпривет,x\nмир,y\n".encode("cp1251"),
        [("привет", "x"), ("мир", "y")],
        data={"encoding": "cp1251"},
    ),
    Case(
        "japanese.jsonl",
        lines([("日本", "x"), ("東京都", "y")]).encode("shift_jis"),
        refused=("shift_jis",),
    ),
    Case("chinese.csv", "text,label\n中国,x\n你好,y\n".encode("gb18030"), refused=("gb18030",)),
    # Compressed
    Case("empty_member.zip", zip_of({"a.csv": b""}), refused=("empty",)),
    Case(
        "rows.tar.gz",
        gzip.compress(b"a.csv".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 700),
        refused=("tar archive",),
    ),
    Case("rows.csv.gz", gzip.compress(CSV), CLEAN),
    Case("rows.jsonl.bz2", bz2.compress(JSONL), CLEAN),
    Case("rows.json.xz", lzma.compress(json.dumps(objects()).encode()), CLEAN),
    Case("rows.csv.zst", zst(CSV), CLEAN),
    Case("rows.csv.zip", zip_of({"rows.csv": CSV}), CLEAN),
    Case(
        "rows.parquet.gz",
        gzip.compress(parquet({"text": ["a", "b"], "label": ["x", "y"]})),
        [("a", "x"), ("b", "y")],
    ),
    Case("two_streams.csv.gz", gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]), CLEAN),
    Case("not_packed.csv.gz", CSV, CLEAN),
    Case("packed_by_another_name.csv", gzip.compress(CSV), CLEAN),
    Case("zero.csv.gz", b"", refused=("empty",)),
    Case("packed_nothing.csv.gz", gzip.compress(b""), refused=("empty",)),
    Case("cut.csv.gz", gzip.compress(CSV * 50)[:-20], refused=("damaged archive", "cut.csv.gz")),
    Case("cut.csv.bz2", bz2.compress(CSV * 50)[:-20], refused=("damaged archive",)),
    Case("cut.csv.xz", lzma.compress(CSV * 50)[:-20], refused=("damaged archive",)),
    Case("cut.csv.zst", zst(CSV * 5000)[:-20], refused=("damaged archive",)),
    Case("cut.zip", zip_of({"rows.csv": CSV})[:-30], refused=("damaged archive",)),
    Case(
        "mac.zip",
        zip_of(
            {
                "rows/": b"",
                "rows/a.csv": CSV,
                "__MACOSX/rows/._a.csv": b"\0\5\26\7",
                "rows/.DS_Store": b"\0\0",
            }
        ),
        CLEAN,
    ),
    Case(
        "two_members.zip",
        zip_of({"a.csv": table(ROWS[:2]).encode(), "b.csv": table(ROWS[2:]).encode()}),
        CLEAN,
    ),
    Case("other_files.zip", zip_of({"a.csv": CSV, "README.md": b"# hi"}), CLEAN),
    Case(
        "two_formats.zip",
        zip_of({"a.csv": CSV, "b.jsonl": JSONL}),
        refused=("several formats", "a.csv"),
    ),
    Case(
        "splits.zip",
        zip_of({"train.csv": CSV, "test.csv": CSV}),
        refused=("train.csv", "data.test"),
    ),
    Case("no_data.zip", zip_of({"README.md": b"# hi"}), refused=("no data file", "README.md")),
    Case("sheet.zip", zip_of({"xl/workbook.xml": b"<x/>"}), refused=("spreadsheet", "CSV")),
    Case("zip_of_gz.zip", zip_of({"a.csv.gz": gzip.compress(CSV)}), CLEAN),
    # Parquet
    Case(
        "plain.parquet",
        parquet({"text": ["a", "b"], "label": ["x", "y"]}),
        [("a", "x"), ("b", "y")],
    ),
    Case(
        "bytes.parquet",
        parquet({"text": [b"caf\xc3\xa9", b"b"], "label": [b"x", b"y"]}),
        [("café", "x"), ("b", "y")],
    ),
    Case(
        "binary.parquet",
        parquet({"text": [b"\xff\xfe", b"b", b"c"], "label": ["x", "y", "x"]}),
        [("b", "y"), ("c", "x")],
        {"invalid_text": 1},
    ),
    Case(
        "dictionary.parquet",
        parquet({"text": ["a", "b"], "label": pa.array(["x", "y"]).dictionary_encode()}),
        [("a", "x"), ("b", "y")],
    ),
    Case(
        "decimal.parquet",
        parquet({"text": ["a", "b"], "label": [decimal.Decimal("1.00"), decimal.Decimal("2.50")]}),
        [("a", "1"), ("b", "2.50")],
    ),
    Case(
        "floats.parquet",
        parquet({"text": ["a", "b", "c"], "label": [1.0, 0.0, float("nan")]}),
        [("a", "1"), ("b", "0")],
        {"missing_label": 1},
    ),
    Case(
        "struct.parquet",
        parquet({"row": [{"text": "a", "n": 1}, {"text": "b", "n": 2}], "label": ["x", "y"]}),
        [("a", "x"), ("b", "y")],
        data={"columns": {"text": "row.text"}},
    ),
    Case(
        "list_labels.parquet",
        parquet({"text": ["a", "b", "c", "d"], "label": [["x"], ["y"], None, None]}),
        refused=("invalid_label",),
    ),
    Case("twice.parquet", arrow_twice(), refused=("stand twice", "text")),
    Case(
        "no_rows.parquet",
        parquet({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
        refused=("no rows",),
    ),
    Case("really_a.parquet", CSV, refused=("not a Parquet file",)),
    Case(
        "really_parquet.csv",
        parquet({"text": ["a"], "label": ["x"]}),
        refused=("data.format: parquet",),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_dirty_file_is_read_exactly_or_refused(run, tmp_path: Path, case: Case) -> None:
    (tmp_path / case.name).write_bytes(case.content)
    data = {"input": case.name, "split": {"train": 1, "validation": 0, "test": 0}} | case.data
    if case.rows is None:
        with pytest.raises(UserInputError) as caught:
            run(**data)
        message = str(caught.value)
        assert all(word in message for word in case.refused), message
        assert "fix:" in message and case.name in message
        return
    done = run(**data)
    assert sorted((row["text"], row["label"]) for row in done.all_rows) == sorted(case.rows)
    assert done.report.rejected == case.rejected
    assert all(case.name in row["file"] and row["detail"] for row in done.rejected)
    assert case.notes in " ".join(done.report.notes)


def test_kept_columns_of_every_parquet_type_are_json(run, tmp_path: Path) -> None:
    columns = {
        "text": ["a", "b"],
        "label": ["x", "y"],
        "at": [T1, T2],
        "ns": pa.array([1714566600000000123, 0], pa.timestamp("ns", "UTC")),
        "day": [T1.date(), None],
        "price": [decimal.Decimal("1.50"), decimal.Decimal("0.10")],
        "score": [float("nan"), 0.5],
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        "meta": [{"lang": "en", "tags": ["p", "q"]}, {"lang": None, "tags": []}],
    }
    (tmp_path / "types.parquet").write_bytes(parquet(columns))
    kept = ["at", "ns", "day", "price", "score", "map", "meta", "meta.lang"]
    done = run(
        input="types.parquet",
        columns={"keep": kept},
        split={"train": 1, "validation": 0, "test": 0},
    )
    first = next(row for row in done.all_rows if row["text"] == "a")
    assert {name: first[name] for name in kept} == {
        "at": "2024-05-01T12:30:00",
        "ns": "2024-05-01T12:30:00+00:00",
        "day": "2024-05-01",
        "price": 1.5,
        "score": None,
        "map": {"k": 1},
        "meta": {"lang": "en", "tags": ["p", "q"]},
        "meta.lang": "en",
    }


def test_members_of_an_archive_are_named(run, tmp_path: Path) -> None:
    bad = table([*ROWS[:2], ("no label", "")]).encode()
    packed = zip_of({"one.csv": bad, "deep/two.csv": table(ROWS[2:]).encode()})
    (tmp_path / "all.zip").write_bytes(packed)
    done = run(input="all.zip", split={"train": 1, "validation": 0, "test": 0})
    assert [(row["file"], row["line"]) for row in done.rejected] == [("all.zip/one.csv", 4)]
    assert sorted(done.report.inputs) == ["input/deep/two.csv", "input/one.csv"]


def test_an_archive_of_another_format_inside_a_directory(run, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv.gz").write_bytes(gzip.compress(table(ROWS[:2]).encode()))
    (tmp_path / "set" / "b.csv").write_bytes(table(ROWS[2:]).encode())
    done = run(input="set", split={"train": 1, "validation": 0, "test": 0})
    assert sorted((row["text"], row["label"]) for row in done.all_rows) == sorted(CLEAN)


def test_a_directory_that_is_split_already_is_refused(run, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("train.csv", "dev.csv", "test-00000-of-00001.csv"):
        (tmp_path / "set" / name).write_bytes(CSV)
    with pytest.raises(UserInputError, match=r"data\.validation: set/dev\.csv"):
        run(input="set")
