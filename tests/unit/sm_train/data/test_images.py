"""Rows with images: every form that names or holds one, and what is no image."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seeing_models import as_png, noise

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.data.channels import REJECTED, load_data
from sm_train.errors import UserError

ASKED = {"role": "user", "content": "what is this?"}
ANSWER = {"role": "assistant", "content": "a cat"}
CHAT = [ASKED, ANSWER]
PLACED = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
]
Write = Callable[..., Path]


def png(seed: int = 0) -> bytes:
    return as_png(noise(seed))


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def parts(*images: dict[str, Any], text: str = "what is this?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}, ANSWER]


@pytest.fixture
def pictures(channel: Write) -> Callable[..., Path]:
    """A channel of these rows, with a few images beside them."""

    def write(rows: list[dict[str, Any]], name: str = "train") -> Path:
        folder = channel(name, rows)
        (folder / "images").mkdir(exist_ok=True)
        for number in range(3):
            (folder / "images" / f"{number}.png").write_bytes(png(number))
        return folder

    return write


def load(paths: Paths, method: str = "sft", **given: Any) -> Any:
    return load_data(paths, parse_config({"method": method, "max_rejected_share": 0.9, **given}))


def reasons(paths: Paths) -> list[str]:
    text = (paths.output_data / REJECTED).read_text()
    return [json.loads(line)["reason"] for line in text.splitlines()]


def contents(row: dict[str, Any]) -> list[bytes]:
    return [Path(path).read_bytes() for path in row["images"]]


URL = f"data:image/png;base64,{base64_of(png(1))}"
FORMS: list[dict[str, Any]] = [
    {"messages": CHAT, "images": ["images/1.png"]},
    {"messages": CHAT, "image": "images/1.png"},
    {"messages": CHAT, "images": [{"bytes": base64_of(png(1)), "path": None}]},
    {"messages": CHAT, "images": [base64_of(png(1))]},
    {"messages": CHAT, "images": [URL]},
    {"messages": parts({"type": "image"}), "images": ["images/1.png"]},
    {"messages": parts({"type": "image", "text": None}), "images": '["./images/1.png"]'},
    {"messages": parts({"type": "image", "image": "images/1.png"})},
    {"messages": parts({"type": "image", "path": "images/1.png"})},
    {"messages": parts({"type": "image", "base64": base64_of(png(1))})},
    {"messages": parts({"type": "image_url", "image_url": {"url": URL, "detail": "auto"}})},
    {"messages": parts({"type": "input_image", "image_url": URL})},
]


@pytest.mark.parametrize("row", FORMS, ids=range(len(FORMS)))
def test_each_form_of_an_image_is_the_same_row(
    row: dict[str, Any], pictures: Write, paths: Paths
) -> None:
    pictures([row])
    data = load(paths)
    assert contents(data.train[0]) == [png(1)]
    assert data.train[0]["messages"] == PLACED
    assert not any("columns not read" in note for note in data.notes)


def test_parquet_holds_images_as_datasets_writes_them(paths: Paths) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = paths.channels / "train"
    folder.mkdir()
    rows = [
        {"messages": CHAT, "images": [{"bytes": png(number), "path": "x.png"}]}
        for number in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    assert [contents(row) for row in load(paths).train] == [[png(0)], [png(1)]]
    pq.write_table(
        pa.Table.from_pylist([{"messages": CHAT, "image": png(2)}]), folder / "data.parquet"
    )
    assert [contents(row) for row in load(paths).train] == [[png(2)]]


def test_images_go_where_their_parts_are_in_their_order(pictures: Write, paths: Paths) -> None:
    first = parts({"type": "image"}, {"type": "image", "image": "images/0.png"})
    then = parts({"type": "image"}, text="and this?")
    pictures([{"messages": [*first, *then], "images": ["images/1.png", "images/2.png"]}])
    row = load(paths).train[0]
    assert contents(row) == [png(1), png(0), png(2)]
    kinds = [[part["type"] for part in message["content"]] for message in row["messages"]]
    assert kinds == [["image", "image", "text"], ["text"], ["image", "text"], ["text"]]


def test_a_path_begins_at_the_rows_own_file_or_at_the_channel(
    pictures: Write, paths: Paths
) -> None:
    folder = pictures([{"messages": CHAT, "images": ["images/0.png"]}])
    (folder / "part").mkdir()
    (folder / "part" / "near.png").write_bytes(png(7))
    rows = [{"messages": CHAT, "images": [name]} for name in ("near.png", "images/0.png")]
    (folder / "part" / "more.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(paths)
    assert [contents(row) for row in data.train] == [[png(0)], [png(7)], [png(0)]]
    assert any(
        "files not read: 2 images that no row names, such as images/1.png" in note
        for note in data.notes
    )


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that say they are a picture of any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_)

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": CHAT, "images": ["images/9.png"]}, "the channel has no image images/9.png"),
    ({"messages": CHAT, "images": ["data.jsonl"]}, "data.jsonl is no image that can be read"),
    ({"messages": CHAT, "images": ["../../x.png"]}, "lies outside the channel"),
    ({"messages": CHAT, "images": ["/etc/passwd"]}, "lies outside the channel"),
    ({"messages": CHAT, "images": ["https://x.org/a.png"]}, "is at an address (https://)"),
    ({"messages": CHAT, "images": ["s3://bucket/a.png"]}, "is at an address (s3://)"),
    ({"messages": CHAT, "images": [{"bytes": base64_of(b"x" * 90)}]}, "is no image that can be"),
    ({"messages": CHAT, "images": [{"bytes": "?"}]}, "is no image that can be read"),
    ({"messages": CHAT, "images": [{"bytes": None, "path": None}]}, "neither bytes nor a path"),
    ({"messages": CHAT, "images": [5]}, "an image is a int"),
    ({"messages": CHAT, "images": [""]}, "not a path, bytes or a data: URL"),
    (
        {"messages": CHAT, "images": [{"bytes": base64_of(huge_png(30_000, 30_000))}]},
        "is too large",
    ),
    (
        {"messages": CHAT, "images": [{"bytes": base64_of(huge_png(10_000, 9_000))}]},
        "has 10000 x 9000 pixels",
    ),
    (
        {"messages": parts({"type": "image"}), "images": ["images/0.png", "images/1.png"]},
        "2 images for 1 image parts",
    ),
    ({"messages": parts({"type": "image"})}, "0 images for 1 image parts"),
    (
        {"messages": [ASKED, {"role": "assistant", "content": [{"type": "image"}]}],
         "images": ["images/0.png"]},
        "a model writes text alone",
    ),
    ({"messages": CHAT, "images": ["images/0.png"], "image": "images/0.png"}, "leave one of them"),
    ({"messages": CHAT, "images": ["images/0.png"], "tools": [{"name": "f"}]}, "leave out tools"),
    ({"text": "a", "images": ["images/0.png"]}, "images go with messages"),
]  # fmt: skip


def test_what_is_no_image_is_set_aside_with_its_reason(pictures: Write, paths: Paths) -> None:
    good = {"messages": CHAT, "images": ["images/0.png"]}
    pictures([*(row for row, _ in BAD), *[good] * 3])
    data = load(paths, max_rejected_share=0.95)
    assert len(data.train) == 3
    for reason, (_, wanted) in zip(reasons(paths), BAD, strict=True):
        assert wanted in reason


def test_rows_without_images_among_others_are_of_the_same_form(
    pictures: Write, channel: Write, paths: Paths
) -> None:
    pictures([{"messages": CHAT, "images": ["images/0.png"]}, {"messages": CHAT}])
    channel("test", [{"messages": CHAT}])
    data = load(paths)
    assert data.has_images
    assert data.train[1]["images"] == data.test[0]["images"] == []
    assert data.test[0]["messages"][1] == PLACED[1]


def test_preferences_about_images_have_a_prompt_of_their_own(pictures: Write, paths: Paths) -> None:
    other = {"role": "assistant", "content": "a dog"}
    explicit = {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [other]}
    implicit = {"chosen": [ASKED, ANSWER], "rejected": [ASKED, other]}
    plain = {"prompt": ASKED["content"], "chosen": [ANSWER], "rejected": [other]}
    pictures([{**row, "images": ["images/0.png"]} for row in (explicit, implicit, plain)])
    rows = load(paths, "dpo").train
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["prompt"] == PLACED[:1]
    assert rows[0]["chosen"] == PLACED[1:]


CANNOT: list[tuple[str, dict[str, Any]]] = [
    ("kto", {"prompt": [ASKED], "completion": [ANSWER], "label": True}),
    ("orpo", {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [ASKED]}),
    ("reward", {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [ASKED]}),
    ("grpo", {"prompt": [ASKED]}),
]


@pytest.mark.parametrize(("method", "row"), CANNOT)
def test_methods_without_images_refuse_them_by_name(
    method: str, row: dict[str, Any], pictures: Write, paths: Paths
) -> None:
    given = {"reward_funcs": ["think_format_reward"]} if method == "grpo" else {}
    config = parse_config({"method": method, **given})
    for rows in (
        {**row, "images": ["images/0.png"]},
        {**row, "prompt": parts({"type": "image", "path": "images/0.png"})[:1]},
    ):
        pictures([rows])
        with pytest.raises(UserError, match=f"method = '{method}': the rows have images"):
            load_data(paths, config)


def test_a_column_of_addresses_beside_texts_is_named_and_not_refused(
    pictures: Write, paths: Paths
) -> None:
    config = parse_config({"method": "text-classification"})
    row = {"text": "nice", "label": "good", "images": ["https://x.org/a.png"]}
    pictures([row, {**row, "label": "bad"}])
    assert any("columns not read: images" in note for note in load_data(paths, config).notes)
    pictures([{**row, "images": [URL]}])
    with pytest.raises(UserError, match="the rows have images"):
        load_data(paths, config)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("sft", {"packing": True}),
        ("sft", {"padding_free": True}),
        ("sft", {"truncation_mode": "keep_end"}),
        ("sft", {"train_sampling_strategy": "group_by_length"}),
        ("sft", {"completion_only_loss": True}),
        ("sft", {"streaming": True, "max_steps": 2}),
        ("sft", {"predict_with_generate": True}),
        ("dpo", {"precompute_ref_log_probs": True}),
    ],
)
def test_settings_that_cannot_be_had_with_images_are_refused(
    method: str, given: dict[str, Any], pictures: Write, paths: Paths
) -> None:
    other = {"role": "assistant", "content": "a dog"}
    answers = {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [other]}
    row = {"messages": CHAT} if method == "sft" else answers
    pictures([{**row, "images": ["images/0.png"]}])
    with pytest.raises(UserError, match=f"^{next(iter(given))}"):
        load(paths, method, **given)
