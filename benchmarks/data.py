"""`sm-launch data prepare` against the same steps in pandas, on generated reviews.

    python benchmarks/data.py --rows 1000000

Each side runs in a process of its own, in turn (see harness.py). CPU seconds are those of all its
processes: on a machine that has other work they say more than the clock. Peak memory is that of the
process and its children, summed over samples of their resident sets. The pandas side does what a
notebook would: the same text repairs, duplicates by folded text, a stratified split by
scikit-learn, JSON Lines. `rows_shared` says that both do the same: the share of rows, text and
label, that the two have in common.
"""

from __future__ import annotations

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
from harness import begin, in_turn, parser, ratio, spreads, write

VOCABULARY = [
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
            text = " ".join(chance.choices(VOCABULARY, k=chance.randint(6, 40))) + f" {number}"
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


def measure(
    side: str, source: Path, rows: int, workers: int | None
) -> tuple[dict[str, float], set[int]]:
    """Rows per second (imports included), CPU time, peak resident memory of a side; its rows."""
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
    kept_rows = _rows(output)
    shutil.rmtree(output.parent)
    figures = {
        "rows_kept": kept,
        "seconds": round(seconds, 2),
        "rows_per_second": round(rows / seconds),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_memory_mib": round(peak[0] / 2**20),
    }
    return figures, kept_rows


def _rows(output: Path) -> set[int]:
    """The prepared rows of all channels, text and label, each as a number."""
    return {
        hash((row["text"], row["label"]))
        for file in output.rglob("*.jsonl")
        if file.parent.name in ("train", "validation", "test")
        for row in map(json.loads, file.open(encoding="utf-8"))
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
    options = parser(__doc__, "data")
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--workers", type=int, default=None)
    arguments = options.parse_args()
    machine = begin(arguments)
    rows = 20_000 if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "reviews.csv"
        write_reviews(source, rows)
        size = round(source.stat().st_size / 2**20, 1)
        sides = {
            side: lambda side=side: measure(side, source, rows, arguments.workers) for side in SIDES
        }
        results = in_turn(sides, arguments.rounds)
    runs = {side: [figures for figures, _ in outcomes] for side, outcomes in results.items()}
    ours, theirs = (results[side][0][1] for side in SIDES)
    speed = {side: [run["rows_per_second"] for run in each] for side, each in runs.items()}
    write(
        arguments.output,
        {
            "machine": machine,
            "rows": rows,
            "input_mib": size,
            **{side: spreads(each) for side, each in runs.items()},
            "rows_per_second_ratio": ratio(speed["sm_launch"], speed["pandas"]),
            "rows_shared": round(len(ours & theirs) / len(ours | theirs), 4),
        },
    )


if __name__ == "__main__":
    main()
