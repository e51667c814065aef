"""Standard benchmarks by lm-evaluation-harness, in a process of its own, and what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sm_launch import json_lines
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.evaluation.intervals import share_interval
from sm_launch.evaluation.result import Interval, Prediction
from sm_launch.job.evaluation import Benchmark

TASK = "benchmark"
LOG = "lm_eval.log"
_DEVIATIONS = 1.959964
"""A 95 % interval reaches so many standard errors to each side."""
_SHARES = frozenset({"acc", "acc_norm", "exact_match", "em", "f1"})
_LINES_SHOWN = 6


@dataclass(frozen=True)
class Measurements:
    """What the harness measured.

    Attributes:
        metrics: `TASK.METRIC` to value, with the filter behind where there is one.
        intervals: of the metrics that have a standard error.
        rows: how many questions were asked.
        predictions: the answers, as far as the harness kept them.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    rows: int
    predictions: tuple[Prediction, ...]


def require_harness() -> None:
    """Refuse before a server is started.

    Raises:
        UserInputError: lm-evaluation-harness is not installed.
    """
    if find_spec("lm_eval") is None:
        raise UserInputError(
            "lm-evaluation-harness is not installed",
            field="--benchmark",
            fix="pip install 'sm-launch[benchmark]'",
        )


def run_harness(
    settings: Benchmark, *, base_url: str, model: str, files: Path | None, directory: Path
) -> Measurements:
    """Ask a model the questions of the tasks.

    Args:
        settings: the tasks, and how they are asked.
        base_url: of OpenAI's routes.
        model: its name there.
        files: a directory of task files of one's own.
        directory: where the harness writes; earlier results in it are replaced.

    Raises:
        LaunchError: it failed; the message holds its last lines.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.rglob("*.json*"):
        path.unlink()
    log = directory / LOG
    arguments = command(settings, base_url=base_url, model=model, files=files, directory=directory)
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    quiet = {"OPENAI_API_KEY": "none", "NO_PROXY": direct, "TOKENIZERS_PARALLELISM": "false"}
    with log.open("wb") as stream:
        finished = subprocess.run(
            arguments, stdout=stream, stderr=stream, check=False, env={**os.environ, **quiet}
        )
    if finished.returncode:
        lines = _last_words(log.read_text(errors="replace").strip().splitlines())
        raise LaunchError(
            "lm-evaluation-harness failed:\n  " + "\n  ".join(lines),
            field="--benchmark",
            value=" ".join(settings.tasks),
            fix=f"the whole log is {log}; `lm-eval ls tasks` names the tasks, and those that "
            "compare likelihoods need evaluation.benchmark.tokenizer",
        )
    return read_results(directory)


def _last_words(lines: list[str]) -> list[str]:
    """Of a log that ends in a traceback what was raised, else its last lines."""
    places = [at for at, line in enumerate(lines) if line.startswith("Traceback (")]
    raised = (
        [at for at in range(places[-1] + 1, len(lines)) if lines[at][:1].strip()] if places else []
    )
    return lines[raised[0] :][:_LINES_SHOWN] if raised else lines[-_LINES_SHOWN:]


def command(
    settings: Benchmark, *, base_url: str, model: str, files: Path | None, directory: Path
) -> list[str]:
    """The command line of the harness."""
    route = "chat/completions" if settings.chat else "completions"
    given = {
        "model": model,
        "base_url": f"{base_url}/v1/{route}",
        "num_concurrent": str(settings.concurrency),
        "max_retries": "3",
        "tokenizer_backend": "huggingface" if settings.tokenizer else "none",
        "tokenized_requests": "False",
    }
    if settings.tokenizer:
        given["tokenizer"] = settings.tokenizer
    options = {
        "--model": "local-chat-completions" if settings.chat else "local-completions",
        "--model_args": ",".join(f"{key}={value}" for key, value in given.items()),
        "--tasks": ",".join(settings.tasks),
        "--output_path": str(directory),
    }
    if files is not None:
        options["--include_path"] = str(files)
    if settings.fewshot is not None:
        options["--num_fewshot"] = str(settings.fewshot)
    if settings.limit is not None:
        options["--limit"] = str(settings.limit)
    flags = ["--log_samples", *(["--apply_chat_template"] if settings.chat else [])]
    given_options = [text for pair in options.items() for text in pair]
    return [sys.executable, "-m", "lm_eval", "run", *given_options, *flags]


def read_results(directory: Path) -> Measurements:
    """What the harness has written below a directory.

    Raises:
        LaunchError: nothing.
    """
    files = sorted(directory.rglob("results_*.json"))
    if not files:
        raise LaunchError("lm-evaluation-harness wrote no results", value=str(directory))
    document = json.loads(files[-1].read_text(encoding="utf-8"))
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    counts = {task: int(each["effective"]) for task, each in document.get("n-samples", {}).items()}
    for task, values in document["results"].items():
        for name, value, error in _of_task(values):
            metrics[f"{task}.{name}"] = value
            if error is not None:
                intervals[f"{task}.{name}"] = _interval(name, value, error, counts.get(task, 0))
    rows = sum(counts.values())
    predictions = tuple(_predictions(sorted(directory.rglob("samples_*.jsonl"))))
    return Measurements(metrics, intervals, rows, predictions)


def _interval(name: str, value: float, error: float, questions: int) -> Interval:
    """By the standard error; where all answers are right, or wrong, it is 0 and says nothing."""
    share = name.partition(".")[0] in _SHARES
    if share and not error and questions:
        return share_interval(value, questions)
    low, high = value - _DEVIATIONS * error, value + _DEVIATIONS * error
    if share:
        return Interval(max(low, 0.0), min(high, 1.0))
    return Interval(low, high)


def _of_task(values: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Name, value and standard error of each metric; the harness writes `METRIC,FILTER`."""
    for key, value in values.items():
        metric, _, chosen = key.partition(",")
        if not isinstance(value, int | float) or not chosen or metric.endswith("_stderr"):
            continue
        error = values.get(f"{metric}_stderr,{chosen}")
        name = metric if chosen == "none" else f"{metric}.{chosen}"
        yield name, float(value), float(error) if isinstance(error, int | float) else None


def _predictions(files: Sequence[Path]) -> Iterator[Prediction]:
    """A row for each question; of several filters the first one's answer."""
    index = 0
    for file in files:
        seen = set()
        for row in json_lines.read(file):
            if row["doc_id"] in seen:
                continue
            seen.add(row["doc_id"])
            values = {
                name: float(row[name])
                for name in row.get("metrics", [])
                if isinstance(row.get(name), int | float)
            }
            yield Prediction(index, _asked(row), str(row.get("target", "")), _said(row),
                             values=values)  # fmt: skip
            index += 1


def _asked(row: Mapping[str, Any]) -> str:
    """The prompt of the first request; the harness writes its arguments under gen_args_0."""
    arguments = row.get("arguments", {})
    first = arguments.get("gen_args_0", {}) if isinstance(arguments, Mapping) else {}
    return str(first.get("arg_0", row.get("doc", "")))


def _said(row: Mapping[str, Any]) -> str:
    answers = row.get("filtered_resps") or [""]
    return str(answers[0])
