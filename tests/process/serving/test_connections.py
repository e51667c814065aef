"""Clients that say too much, too slowly or nothing do not keep others from their answers."""

import contextlib
import socket
import time

import psutil
import pytest

pytestmark = pytest.mark.slow

HEAD = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read(connection):
    """All that comes until the server ends the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def test_headers_of_any_length_are_refused_in_little_memory(classifier):
    process = psutil.Process(classifier.process.pid)
    before = process.memory_info().rss
    with connect(classifier) as client:
        client.sendall(HEAD + b"x-long: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 64 * 2**20:
                sent += client.send(b"a" * 65536)
        answer = read(client)
    assert sent < 8 * 2**20
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert process.memory_info().rss - before < 8 * 2**20
    for wrong in (b"\x16\x03\x01\x02\x00", HEAD + b"content-length: x\r\n\r\n"):
        with connect(classifier) as client:
            client.sendall(wrong)
            head, _, body = read(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"Invalid HTTP request" in body
        assert b"invalid_request_error" in body
    with connect(classifier) as client:  # many, but together not too long
        many = b"".join(b"x-%d: a\r\n" % n for n in range(1000))
        client.sendall(HEAD + many + b"connection: close\r\ncontent-length: 6\r\n\r\n" + b'"good"')
        assert read(client).startswith(b"HTTP/1.1 200 ")


def long_heads():
    """Heads of a little over 64 KiB, as the pieces in which they are sent."""
    pad, end = b"a" * 66_000, b"content-length: 6\r\n\r\n" + b'"good"'
    many = b"".join(b"x-%d: 12345678\r\n" % n for n in range(4000))
    line = b"POST /invocations?" + pad + b" HTTP/1.1\r\nhost: x\r\n"
    yield [HEAD + many + end]
    yield [HEAD + b"x-long: " + pad + b"\r\n" + end]
    yield [line + end]
    for whole in (HEAD + many + end, HEAD + b"x-long: " + pad + b"\r\n" + end, line + end):
        yield [whole[i : i + 30_000] for i in range(0, len(whole), 30_000)]


def test_a_long_head_is_refused_however_it_arrives(classifier):
    for pieces in long_heads():
        with connect(classifier) as client:
            with contextlib.suppress(OSError):
                for piece in pieces:
                    client.sendall(piece)
                    time.sleep(0.01)
            answer = read(client)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1") == 1


def chunked(body, trailers):
    return (
        HEAD
        + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % len(body)
        + body
        + b"\r\n0\r\n"
        + trailers
        + b"\r\n"
    )


def test_trailers_are_no_headers_and_bounded(classifier):
    with connect(classifier) as client:
        client.sendall(chunked(b'"good"', b"accept: text/csv\r\nx-request-id: mine\r\n"))
        head, _, body = read(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"mine" not in head
    assert body.startswith(b"[{")
    for trailers in (b"x: 12345678\r\n" * 8000, b"x: " + b"a" * 300_000 + b"\r\n"):
        with connect(classifier) as client:
            with contextlib.suppress(OSError):
                client.sendall(chunked(b'"good"', trailers))
            assert read(client).startswith(b"HTTP/1.1 431 ")
    assert classifier.ping() == 200


def test_slow_clients_take_no_place_from_others(classifier):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(classifier)) for _ in range(700)]
        for number, client in enumerate(slow):
            if number < 300:
                client.sendall(HEAD + b'content-length: 6\r\n\r\n"g')
            elif number < 500:
                client.sendall(HEAD[:40])
        time.sleep(0.3)
        gauges = classifier.client.get("/metrics").text
        assert "sm_serve_receiving 300" in gauges
        began = time.monotonic()
        assert classifier.ping() == 200
        assert classifier.invoke({"inputs": "good"}).status_code == 200
        assert time.monotonic() - began < 2
        slow[0].sendall(b'ood"')
        assert slow[0].recv(65536).startswith(b"HTTP/1.1 200 ")
        slow[400].sendall(HEAD[40:] + b'content-length: 6\r\n\r\n"good"')
        assert slow[400].recv(65536).startswith(b"HTTP/1.1 200 ")
