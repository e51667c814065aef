"""How long /ping takes while thousands of connections are opened, and while many clients ask.

    python benchmarks/serving_connections.py --model build/tiny-bert [--connections 16000]

/ping is asked every 100 ms, on a connection of its own as on a kept one, through four phases of one
server: alone; while another program opens this many connections as fast as it can and says nothing;
while those are held; and while 200 clients ask for answers. The median and the greatest of all
samples are written as JSON, in milliseconds, with their spread over the rounds.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

import serving_targets as servers
from harness import begin, parser, spread, write
from serving import wait_until_right
from serving_load import run_load, write_post

SAMPLE_SECONDS = 0.1
PHASE_SECONDS = 10.0
CLIENTS = 200
OPENER = """
import socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
kept = []
for _ in range(count):
    kept.append(socket.create_connection(("127.0.0.1", port)))
print("opened", flush=True)
sys.stdin.read()
"""


def ping(connection: http.client.HTTPConnection) -> float:
    """Seconds to the whole answer, which must be 200."""
    began = time.perf_counter()
    connection.request("GET", "/ping")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"/ping said {answer.status}")
    return time.perf_counter() - began


def sample(port: int, until: Callable[[], bool], *, kept: bool) -> list[float]:
    """Seconds of /ping, asked every 100 ms until the phase has ended."""
    seconds: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not until():
        began = time.perf_counter()
        if not kept:
            connection.close()  # connects again with the next request
        seconds.append(ping(connection))
        time.sleep(max(0.0, SAMPLE_SECONDS - (time.perf_counter() - began)))
    connection.close()
    return seconds


def phase(port: int, until: Callable[[], bool]) -> dict[str, float]:
    """Median and greatest time of /ping on kept and on fresh connections, in milliseconds."""
    with ThreadPoolExecutor(2) as threads:
        kept = threads.submit(sample, port, until, kept=True)
        fresh = threads.submit(sample, port, until, kept=False)
        samples = {"kept": kept.result(), "fresh": fresh.result()}
    return {
        f"{name}_{kind}_ms": round(1000 * of(values), 1)
        for name, values in samples.items()
        for kind, of in (("median", statistics.median), ("greatest", max))
    }


def lasting(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have gone by."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@contextlib.contextmanager
def opening(port: int, connections: int) -> Iterator[IO[str]]:
    """Another program that opens silent connections and holds them."""
    command = [sys.executable, "-c", OPENER, str(port), str(connections)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as opener:
        try:
            yield cast(IO[str], opener.stdout)
        finally:
            opener.kill()


def measure(target: servers.Target, work: Path, connections: int) -> dict[str, dict[str, float]]:
    """The four phases of one server."""
    post = write_post("/invocations", {"inputs": "we loved the plot of a very good film " * 4})
    log = work / "server.log"
    with target.running(log) as process:
        wait_until_right(target, "classification", process, log)
        run_load(target.port, [post] * 64, 4)
        phases = {"alone": phase(target.port, lasting(PHASE_SECONDS))}
        with opening(target.port, connections) as opener, ThreadPoolExecutor(1) as thread:
            opened = thread.submit(opener.readline)
            phases["opening"] = phase(target.port, opened.done)
            phases["held"] = phase(target.port, lasting(PHASE_SECONDS))
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(run_load, target.port, [post] * (20 * CLIENTS), CLIENTS)
            phases["clients"] = phase(target.port, load.done)
            load.result()
    return phases


def main() -> None:
    """Measures and writes JSON."""
    made = parser(__doc__, "serving_connections")
    made.add_argument("--model", type=Path, required=True)
    made.add_argument("--connections", type=int, default=16_000)
    options = made.parse_args()
    machine = begin(options)
    connections = 100 if options.quick else options.connections
    with tempfile.TemporaryDirectory() as folder:
        base = servers.base_dir(Path(folder) / "base", options.model)
        target = servers.ours(base, {})
        rounds = [measure(target, Path(folder), connections) for _ in range(options.rounds)]
    write(options.output, {
        "machine": machine,
        "model": options.model.resolve().name,
        "connections": connections,
        "clients": CLIENTS,
        "phases": {
            name: {figure: spread([each[name][figure] for each in rounds], 1) for figure in first}
            for name, first in rounds[0].items()
        },
    })  # fmt: skip


if __name__ == "__main__":
    main()
