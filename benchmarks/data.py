"""`sm-launch data prepare` against the same steps in pandas, on generated reviews.

    python benchmarks/data.py --rows 1000000

Each side runs in a process of its own. CPU seconds are those of all its processes: on a machine
that has other work they say more than the clock. Peak memory is that of the process and its
children, summed over samples of their resident sets. The pandas side does what a notebook would:
the same text repairs, duplicates by folded text, a stratified split by scikit-learn, JSON Lines.
"""

from __future__ import annotations

import argparse
import html
import json
import multiprocessing
import random
import re
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent
WORDS = [
    "the", "a", "this", "film", "product", "service", "battery", "plot", "was",
    "is", "seems", "not", "very", "rather", "good", "bad", "great", "poor",
    "slow", "quick", "kind", "rude", "cheap", "solid", "but", "and", "because",
    "although", "I", "we", "they", "expected", "found", "returned",
]  # fmt: skip
LABELS = {"Positive": 0.55, "neg": 0.3, " NEUTRAL": 0.15}


def write_reviews(path: Path, rows: int) -> None:
    """Reviews of 6 to 40 words; a fifth have dirt, a fiftieth are duplicates or unusable."""
    chance = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,review,sentiment\n")
        previous = "a first text"
        for number in range(rows):
            text = " ".join(chance.choices(WORDS, k=chance.randint(6, 40))) + f" {number}"
            dirt = chance.random()
            if dirt < 0.05:
                text = f"<p>{text}<br/></p>"
            elif dirt < 0.10:
                text = text.replace(" ", "&nbsp;", 2) + " &amp; more"
            elif dirt < 0.15:
                text = text + " itâ€™s cafÃ©"
            elif dirt < 0.20:
                text = "  " + text.replace(" ", "   ", 2)
            elif dirt < 0.21:
                text = previous.upper()
            elif dirt < 0.22:
                text = ""
            previous = text or previous
            label = chance.choices(list(LABELS), list(LABELS.values()))[0]
            file.write(f"{number},{text},{label}\n")


def with_sm_launch(source: Path, output: Path, workers: int | None) -> int:
    from sm_launch.data import DataConfig, prepare

    config = DataConfig.model_validate(
        {
            "input": str(source),
            "columns": {"text": "review", "label": "sentiment"},
            "label_map": {"neg": "negative", "positive": "positive", "neutral": "neutral"},
            "workers": workers,
        }
    )
    return prepare(config, output).rows_kept


def with_pandas(source: Path, output: Path, workers: int | None) -> int:
    import ftfy
    import pandas as pd
    from sklearn.model_selection import train_test_split

    tag, control = re.compile(r"<[a-zA-Z/][^<>]*>"), re.compile("[\x00-\x08\x0b-\x1f\u200b\ufeff]")
    frame = pd.read_csv(source)
    frame = frame.dropna(subset=["review", "sentiment"])
    text = frame["review"].map(lambda value: ftfy.fix_text(value, unescape_html=False))
    text = text.str.replace(tag, " ", regex=True).map(html.unescape)
    text = text.str.replace(control, "", regex=True)
    frame["text"] = text.str.replace(r"\s+", " ", regex=True).str.strip()
    label = frame["sentiment"].str.strip().str.lower()
    frame["label"] = label.replace({"neg": "negative"})
    frame = frame[frame["text"] != ""]
    frame = frame.loc[~frame["text"].str.lower().duplicated(), ["text", "label"]]
    train, rest = train_test_split(frame, test_size=0.2, stratify=frame["label"], random_state=1)
    parts = train_test_split(rest, test_size=0.5, stratify=rest["label"], random_state=1)
    for name, part in zip(("train", "validation", "test"), (train, *parts), strict=True):
        (output / name).mkdir(parents=True)
        part.to_json(
            output / name / f"{name}.jsonl", orient="records", lines=True, force_ascii=False
        )
    return len(frame)


SIDES = {"sm_launch": with_sm_launch, "pandas": with_pandas}


def _in_child(side: str, source: Path, output: Path, workers: int | None, answer) -> None:
    started = time.perf_counter()
    kept = SIDES[side](source, output, workers)
    wall = time.perf_counter() - started
    spent = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    answer.put((kept, wall, sum(usage.ru_utime + usage.ru_stime for usage in spent)))


def measure(side: str, source: Path, rows: int, workers: int | None) -> dict[str, float]:
    """Rows per second (imports included), CPU time and peak resident memory of one side."""
    output = Path(tempfile.mkdtemp()) / "out"
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=_in_child, args=(side, source, output, workers, answer))
    child.start()
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, peak, done))
    watcher.start()
    child.join()
    done.set()
    watcher.join()
    if child.exitcode:
        raise SystemExit(f"{side} failed with exit code {child.exitcode}")
    kept, seconds, cpu_seconds = answer.get()
    shutil.rmtree(output.parent)
    return {
        "rows_kept": kept,
        "seconds": round(seconds, 2),
        "rows_per_second": round(rows / seconds),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_memory_mib": round(peak[0] / 2**20),
    }


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    process = psutil.Process(pid)
    while not done.wait(0.05):
        try:
            family = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--only", choices=SIDES, help="measure one side")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "data.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "reviews.csv"
        write_reviews(source, arguments.rows)
        result: dict[str, object] = {
            "rows": arguments.rows,
            "input_mib": round(source.stat().st_size / 2**20, 1),
            "cpus": psutil.cpu_count(),
            "load_before": psutil.getloadavg()[0],
        }
        for side in [arguments.only] if arguments.only else SIDES:
            result[side] = measure(side, source, arguments.rows, arguments.workers)
            print(side, result[side], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
