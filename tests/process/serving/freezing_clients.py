"""Clients that send what once froze a server, over and over, from a process of their own.

    python freezing_clients.py PORT SECONDS KIND...

Prints a JSON object of the statuses of each kind that was sent; 0 is a connection that ended
without an answer.
"""

import json
import socket
import sys
import threading
import time
from collections import defaultdict

CLIENTS = 24
MEGABYTE = 2**20


def many(piece, size=3 * MEGABYTE):
    return "[" + ",".join([piece] * (size // (len(piece) + 1))) + "]"


def bodies():
    """Each kind's body and Content-Type."""
    film, lines, csv = "film " * 500_000, "application/jsonlines", "text/csv"
    long_answers = {"inputs": ["a good film"] * 300, "parameters": {"max_new_tokens": 30}}
    # Of any model.
    yield "texts", json.dumps({"inputs": ["a"] * 20_000})
    yield "long texts", json.dumps({"inputs": ["good film " * 20] * 500})
    yield "empty lists", many("[]")
    yield "objects", many('{"":1}')
    yield "nested lists", '{"inputs": ' + "[" * MEGABYTE
    yield "a long text", '{"inputs": "' + "a" * 3 * MEGABYTE + '"}'
    yield "a long number", "[" + "9" * 4000 + "]"
    yield "JSON lines", "1\n" * MEGABYTE, lines
    yield "CSV rows", "good film\n" * 200_000, csv
    yield "a slow charset", "xn--" + "a" * 800 * 1024, "text/plain; charset=idna"
    yield "a list", many('"a"', 15_000)
    # Of a language model.
    yield "prompts × n", json.dumps({"prompt": ["a"] * 5_000, "n": 16, "max_tokens": 1})
    yield "long answers", json.dumps(long_answers)
    yield "a long chat", json.dumps({"messages": [{"role": "user", "content": film}]})
    yield "truncate", json.dumps({"inputs": film, "parameters": {"truncate": 9}})
    yield "token ids", json.dumps({"prompt": [1] * MEGABYTE})


def requests(kinds):
    """Whole requests by kind."""
    sent = {}
    for kind, text, *given in bodies():
        if kind in kinds:
            body = text.encode()
            head = (
                "POST /invocations HTTP/1.1\r\nhost: client\r\nconnection: close\r\n"
                f"content-type: {given[0] if given else 'application/json'}\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            sent[kind] = head.encode() + body
    return sent


def ask(port, request):
    """The status of the answer, read to its end."""
    head = b""
    try:
        with socket.create_connection(("127.0.0.1", port), 90) as connection:
            connection.sendall(request)
            while piece := connection.recv(65536):
                head = head or piece
    except OSError:
        return 0
    return int(head.split()[1]) if head else 0


def main(port, seconds, *kinds):
    """All begin at once, each with another kind; who has no answer at the end leaves."""
    known = list(requests(kinds).items())
    statuses = defaultdict(list)
    until = time.monotonic() + float(seconds)

    def send(number):
        while time.monotonic() < until:
            kind, request = known[number % len(known)]
            told = statuses[kind]
            status = ask(int(port), request)
            if time.monotonic() < until:
                told.append(status)
            number += 1

    for number in range(CLIENTS):
        threading.Thread(target=send, args=(number,), daemon=True).start()
    time.sleep(float(seconds))
    print(json.dumps({kind: sorted(set(seen)) for kind, seen in statuses.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
