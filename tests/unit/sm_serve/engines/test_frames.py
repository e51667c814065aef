"""Messages between the front and an engine's process."""

import socket

import pytest

from sm_serve.engines.process.frames import FrameReader, pack, receive_frame, write_frame

MESSAGES = [
    None,
    ("state", None, {"queue_items": 3, "share": 0.1}),
    ("calls", [(1, b"abc"), (2, b"")]),
    {"text": "żółć" * 50_000},
]


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_messages_come_out_whole_in_whatever_pieces_they_arrive(size):
    data = b"".join(write_frame(message) for message in MESSAGES)
    reader = FrameReader()
    messages = [
        message
        for start in range(0, len(data), size)
        for message in reader.feed(data[start : start + size])
    ]
    assert messages == MESSAGES


def test_waiting_for_one_message_leaves_the_next_where_it_is():
    here, there = socket.socketpair()
    with here, there:
        there.sendall(write_frame("first") + write_frame("second"))
        assert receive_frame(here) == "first"
        assert receive_frame(here) == "second"
        there.close()
        with pytest.raises(EOFError):
            receive_frame(here)


def test_only_plain_values_are_packed():
    with pytest.raises(ValueError, match="unmarshallable"):
        pack({"inputs": object()})
