"""Asks a server's /ping every 100 ms from a process of its own, until its input ends.

    python ping_sampler.py PORT PID

Prints [status, seconds, waited] for each answer: for `waited` of these seconds the thread of the
server's event loop, this process, or the whole machine was ready and had no processor, as Linux
tells. What is left is the server's own doing, on a busy machine as on an idle one.
"""

import json
import os
import select
import socket
import sys
import time
from pathlib import Path

INTERVAL_SECONDS = 0.1
ANSWER_SECONDS = 60
REQUEST = b"GET /ping HTTP/1.1\r\nhost: sampler\r\nconnection: close\r\n\r\n"
STOLEN = 8
"""Place in the first line of /proc/stat: time that the machine's own host gave to others."""


def waited(server: int) -> float:
    """Seconds, from some beginning on."""
    queued = [
        int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
        for pid in (server, os.getpid())
    ]
    with Path("/proc/stat").open(encoding="ascii") as lines:
        stolen = int(lines.readline().split()[STOLEN]) / os.sysconf("SC_CLK_TCK")
    return sum(queued) + stolen / (os.cpu_count() or 1)


def ping(port: int) -> int:
    """The status, by a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
        connection.sendall(REQUEST)
        head = b""
        while b"\r\n" not in head:
            piece = connection.recv(4096)
            if not piece:
                return 0
            head += piece
    return int(head.split()[1])


def sample(port: int, server: int) -> None:
    while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
        before, began = waited(server), time.monotonic()
        status = ping(port)
        seconds = time.monotonic() - began
        print(json.dumps([status, seconds, waited(server) - before]), flush=True)


if __name__ == "__main__":
    sample(*map(int, sys.argv[1:]))
