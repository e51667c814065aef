"""Bodies of any size: read aside when they are large, the same as when they are small."""

import asyncio
import gzip
import json
import resource
import zlib

import pytest

from sm_serve.config import Settings
from sm_serve.errors import (
    BadRequest,
    PayloadTooLarge,
    ServeError,
    TooManyRequests,
    UnsupportedMediaType,
)
from sm_serve.handlers import reading
from sm_serve.handlers.admission import Admission
from sm_serve.handlers.answer import Incoming
from sm_serve.handlers.reading import Reader
from sm_serve.schemas import compression, documents, media
from sm_serve.schemas.media import MediaType

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def read():
    """Reads a body by child processes, or says how it is refused."""
    with asyncio.Runner() as runner:
        reader = Reader(8 * MEGABYTE, 10_000)

        def one(body, kind=media.JSON, charset="utf-8", encoding=""):
            try:
                return runner.run(reader.read(body, MediaType(kind, charset), encoding))
            except ServeError as error:
                return error

        yield one
        reader.close()
        runner.run(asyncio.sleep(0))


PAD = b" " * (reading.SMALL + 1)
SAME = [
    (b'{"inputs": ["a", {"b": [1, 2.5, null]}]}', media.JSON),
    (b'"a"\n\n{"inputs": 1}\n{oops\n', media.JSON_LINES),
    (b"text\na\nb\n", media.CSV),
    ("é".encode() * 20, media.TEXT),
    (b'{"a": ', media.JSON),
    (b"\xff", media.JSON),
    (b"x", "image/png"),
]


@pytest.mark.parametrize(("body", "kind"), SAME)
def test_a_large_body_is_read_as_a_small_one(read, body, kind):
    small, large = read(body, kind), read(body + PAD, kind)
    assert type(small) is type(large)
    if isinstance(small, ServeError):
        assert large.code == small.code
    elif kind == media.CSV:
        assert large.value[: len(small.value)] == small.value
    elif kind == media.TEXT:
        assert large.value.strip() == small.value
    else:
        assert large == small


def many(piece, size=6 * MEGABYTE, begin="[", end="]"):
    return (begin + ",".join([piece] * (size // (len(piece) + 1))) + end).encode()


FREEZING = {
    "lists": (many("[]"), media.JSON),
    "objects": (many('{"":1}'), media.JSON),
    "keys": (
        ("{" + ",".join(f'"{n:x}":1' for n in range(600_000)) + "}").encode(),
        media.JSON,
    ),
    "deep lists": (b"[" * MEGABYTE, media.JSON),
    "deep objects": (b'{"a":' * MEGABYTE, media.JSON),
    "long number": (b"[" + b"1" * 6 * MEGABYTE + b"]", media.JSON),
    "lines": (b"1\n" * 3 * MEGABYTE, media.JSON_LINES),
    "rows": (b"a\n" * 3 * MEGABYTE, media.CSV),
    "values of lines": (b"[" + b"1," * 300_000 + b"1]\n" * 1, media.JSON_LINES),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FREEZING)
def test_bodies_that_take_long_leave_the_event_loop_free(read, name):
    body, kind = FREEZING[name]
    gaps = []

    async def main():
        reader = Reader(8 * MEGABYTE, 10_000)

        async def beat():
            loop = asyncio.get_running_loop()
            last = loop.time()
            while True:
                await asyncio.sleep(0.01)
                gaps.append(loop.time() - last)
                last = loop.time()

        beating = asyncio.create_task(beat())
        try:
            return await reader.read(body, MediaType(kind))
        except BadRequest as error:
            return error
        finally:
            beating.cancel()
            reader.close()

    result = asyncio.run(main())
    assert isinstance(result, BadRequest) or result.items <= 10_000
    assert max(gaps, default=0) < 1.0


def test_a_child_that_is_killed_or_too_slow_fails_its_body_alone(monkeypatch):
    body = json.dumps(["a" * 30_000]).encode()

    async def main():
        reader = Reader(MEGABYTE, 100)
        assert (await reader.read(body, media.PLAIN_JSON)).value == ["a" * 30_000]
        (lane, _) = reader._lanes
        lane._child.kill()
        with pytest.raises(BadRequest, match="memory"):
            await reader.read(body, media.PLAIN_JSON)
        assert (await reader.read(body, media.PLAIN_JSON)).items == 1
        monkeypatch.setattr(reading, "SECONDS", 0.0)
        monkeypatch.setattr(reading, "SECONDS_A_BYTE", 0.0)
        with pytest.raises(BadRequest, match="took over 0 s"):
            await reader.read(body, media.PLAIN_JSON)
        reader.close()

    asyncio.run(main())


COUNTED = [
    ("a", 1),
    (["a", "b"], 2),
    ({"inputs": ["a"] * 7}, 7),
    ({"inputs": ["a"] * 7, "parameters": {"num_return_sequences": 3}}, 21),
    ({"prompt": ["a", "b"], "n": 4}, 8),
    ({"prompt": [1, 2, 3]}, 1),
    ({"input": [[1, 2], [3]]}, 2),
    ({"messages": [{"role": "user", "content": "a"}] * 5}, 5),
    ({"query": "a", "documents": ["b"] * 9}, 9),
    ({"inputs": {"source_sentence": "a", "sentences": ["b"] * 6}}, 6),
    ({"inputs": {"question": ["a"] * 3, "context": ["b"] * 3}}, 3),
]


@pytest.mark.parametrize(("value", "items"), COUNTED, ids=str)
def test_items_are_counted_in_every_format(value, items):
    assert documents.count_items(value) == items
    lines = json.dumps(value).encode() + b"\n" + json.dumps(value).encode()
    assert documents.read(lines, MediaType(media.JSON_LINES), 2 * items).items == 2 * items
    with pytest.raises(BadRequest, match=f"has {2 * items} items, at most {2 * items - 1} are"):
        documents.read(lines, MediaType(media.JSON_LINES), 2 * items - 1)


def test_admission_bounds_a_request_and_all_of_them_and_never_refuses_a_lone_item():
    admission = Admission(Settings(max_items=10, max_payload_bytes=1))
    eleven = json.dumps({"inputs": ["a"] * 11}).encode()
    with pytest.raises(BadRequest, match="has 11 items, at most 10 are taken"):
        documents.read(eleven, media.PLAIN_JSON, 10)
    tickets = [admission.ticket() for _ in range(5)]
    for ticket in tickets[:4]:
        ticket.take_items(10)
    with pytest.raises(TooManyRequests):
        tickets[4].take_items(10)
    for _ in range(100):
        admission.ticket().take_items(1)
    tickets[0].close()
    tickets[4].take_items(10)
    for ticket in tickets:
        ticket.take_bytes(admission.most_bytes // 5)
    with pytest.raises(TooManyRequests):
        tickets[0].take_bytes(100)
    for ticket in tickets:
        ticket.close()
    assert (admission.items, admission.bytes) == (0, 0)


def zeros(gigabytes):
    """A body of a few MB that expands to gigabytes, as members one after the other."""
    return gzip.compress(bytes(64 * MEGABYTE)) * (16 * gigabytes)


SQUEEZED = {
    "gigabytes": (zeros(4), "gzip", PayloadTooLarge),
    "kilobytes to megabytes": (gzip.compress(bytes(16 * MEGABYTE)), "gzip", PayloadTooLarge),
    "empty members": (gzip.compress(b"") * 200_000, "gzip", BadRequest),
    "a million values": (gzip.compress(many("[]")), "gzip", BadRequest),
    "no gzip": (b"x" * MEGABYTE, "gzip", BadRequest),
    "another coding": (b"x" * MEGABYTE, "br", UnsupportedMediaType),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SQUEEZED)
def test_a_compressed_body_costs_the_event_loop_nothing_and_no_memory(monkeypatch, name):
    """All its unpacking is a child's, but for what comes out small."""
    body, encoding, kind = SQUEEZED[name]
    here = []
    unpack = compression.unpack
    monkeypatch.setattr(
        compression, "unpack", lambda *job: here.append(len(job[0]) + job[2]) or unpack(*job)
    )

    async def main():
        reader = Reader(8 * MEGABYTE, 10_000)
        try:
            await reader.read(body, media.PLAIN_JSON, encoding)
        finally:
            reader.close()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind):
        asyncio.run(main())
    assert all(work <= 2 * reading.SMALL for work in here)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB: some copies of the body, never what comes out of it


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", ""])
@pytest.mark.parametrize("size", [1, reading.SMALL + 1, reading.MIDDLE + 1])
def test_a_compressed_body_is_read_as_the_plain_one(read, encoding, size):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)
    plain = json.dumps({"inputs": "é" * size}).encode()
    value = read(pack(plain), encoding=encoding)
    assert value.value == read(plain).value
    # What is large once it is unpacked counts among the bodies that are held.
    large = len(plain) > reading.SMALL and encoding in ("gzip", "deflate")
    assert value.unpacked == (len(plain) if large else 0)


def test_what_comes_out_of_compressed_bodies_is_held_within_the_bound_of_all():
    admission = Admission(Settings(max_payload_bytes=MEGABYTE, max_items=10))
    body = gzip.compress(json.dumps("a" * (MEGABYTE - 10)).encode())

    admission.ticket().take_bytes(admission.most_bytes - 2 * MEGABYTE)

    async def main():
        reader = Reader(MEGABYTE, 10)
        headers = {"content-encoding": "gzip"}
        requests = [Incoming(body, headers, reader=reader, ticket=admission.ticket())
                    for _ in range(3)]  # fmt: skip
        try:
            for request in requests:
                request.ticket.take_bytes(len(body))
            await requests[0].read(media.PLAIN_JSON)
            with pytest.raises(TooManyRequests):
                for request in requests[1:]:
                    await request.read(media.PLAIN_JSON)
        finally:
            reader.close()

    asyncio.run(main())
