"""How long a small client waits beside a batch client, against how long it waits alone.

    python benchmarks/serving_fairness.py --model build/minilm [--items 5000] [--rounds 3]
    python benchmarks/serving_fairness.py --model build/llama-65m [--items 400]

One small client sends a short request again and again, first alone, then while another client has
a list of many texts (prompts) in the server. Both are measured in each round, in one server. The
median, the 99th percentile and the seconds of the list are written as JSON, with their spread over
the rounds.
"""

from __future__ import annotations

import concurrent.futures
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import begin, parser, spread, write
from serving import wait_until_right
from serving_targets import base_dir, ours

SMALL_TEXT = "good film"
LISTED_TEXT = "we loved the plot of a very good film and never the bad one again " * 4
ALONE_REQUESTS = 50
ANSWER_TOKENS = {"small": 4, "listed": 64}
HEAD_START_SECONDS = 0.5
QUICK_ITEMS = {"classification": 600, "generation": 8}
"""A list that lasts for longer than its head start."""
TIMEOUT_SECONDS = 900


@contextmanager
def serving(model: Path, task: str) -> Iterator[str]:
    """The address of a server of this model."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        waiting = {"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)}
        target = ours(base_dir(work / "base", model), waiting)
        log = work / "server.log"
        with target.running(log) as process:
            wait_until_right(target, task, process, log)
            yield f"http://127.0.0.1:{target.port}"


def ask(url: str, inputs: Any, tokens: int | None) -> float:
    """Seconds to the whole answer."""
    body: dict[str, Any] = {"inputs": inputs}
    if tokens is not None:
        body["parameters"] = {"max_new_tokens": tokens, "ignore_eos_token": True}
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        answer.read()
    return time.perf_counter() - began


def measure(url: str, items: int, *, generates: bool) -> dict[str, Any]:
    """One round: the small client alone, then beside a list."""
    small = ANSWER_TOKENS["small"] if generates else None
    listed = ANSWER_TOKENS["listed"] if generates else None
    alone = [ask(url, SMALL_TEXT, small) for _ in range(ALONE_REQUESTS)]
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        texts = [f"{number} {LISTED_TEXT}" for number in range(items)]
        batch = thread.submit(ask, url, texts, listed)
        time.sleep(HEAD_START_SECONDS)
        beside = []
        while not batch.done():
            beside.append(ask(url, SMALL_TEXT, small))
        seconds = batch.result()
    if not beside:
        raise SystemExit(f"{items} items are answered too fast: give more by --items")
    return {
        "alone": summary(alone),
        "beside": {**summary(beside), "requests": len(beside)},
        "list_seconds": round(seconds, 2),
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    values = sorted(seconds)
    at = min(len(values) - 1, -(-99 * len(values) // 100) - 1)
    return {
        "median_ms": round(1000 * statistics.median(values), 2),
        "p99_ms": round(1000 * values[at], 2),
    }


def main() -> None:
    """Measures and writes JSON."""
    made = parser(__doc__, "serving_fairness")
    made.add_argument("--model", type=Path, required=True)
    made.add_argument("--items", type=int, default=5000)
    options = made.parse_args()
    machine = begin(options)
    config = json.loads((options.model / "config.json").read_text())
    generates = str(config["architectures"][0]).endswith("LM")
    task = "generation" if generates else "classification"
    items = QUICK_ITEMS[task] if options.quick else options.items
    with serving(options.model, task) as url:
        measure(url, min(items, 200), generates=generates)  # warms up
        rounds = [measure(url, items, generates=generates) for _ in range(options.rounds)]
    output = options.output
    if output == made.get_default("output"):
        output = output.with_name(f"serving_fairness_{options.model.resolve().name}.json")
    write(output, {
        "machine": machine,
        "model": options.model.resolve().name,
        "items": items,
        **{name: {place: spread([each[name][place] for each in rounds])
                  for place in ("median_ms", "p99_ms")} for name in ("alone", "beside")},
        "list_seconds": spread([each["list_seconds"] for each in rounds]),
        "small_requests": spread([each["beside"]["requests"] for each in rounds]),
    })  # fmt: skip


if __name__ == "__main__":
    main()
