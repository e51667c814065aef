"""The `evaluation` section of job.yaml: what the model is asked, and how good it must be."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from sm_launch.job.section import Section
from sm_launch.job.tasks import EvaluationTask


class JudgeSettings(Section):
    """Another model that grades generated answers, through an OpenAI-compatible endpoint."""

    model: str
    """Name of the judge's model."""
    base_url: str = "https://api.openai.com/v1"
    """Where `/chat/completions` is."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key; null where none is needed."""
    criteria: str = "Is the answer right, complete and helpful, judged by the reference answer?"
    """What to grade by."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests in flight at a time."""
    max_tokens: Annotated[int, Field(ge=16)] = 256
    """Length of a judgement."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60
    """Of one request."""


class Benchmark(Section):
    """Standard tasks of lm-evaluation-harness: `sm-launch evaluate --benchmark`."""

    tasks: list[str] = []
    """Their names, such as [gsm8k]; `--benchmark NAME` goes before."""
    files: str | None = None
    """Directory of task files (YAML) of one's own, which need no network."""
    chat: bool = False
    """Ask as a conversation, by the model's chat template; else as text to go on with."""
    tokenizer: str | None = None
    """Hub id or directory of the model's tokenizer: tasks that compare likelihoods need it."""
    fewshot: Annotated[int, Field(ge=0)] | None = None
    """How many solved examples stand before a question; default: the task's own."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only so many questions of each task."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Requests in flight at a time."""
    fail_under: dict[str, float] = {}
    """Gates by TASK.METRIC, such as {gsm8k.exact_match.strict-match: 0.4}."""
    fail_over: dict[str, float] = {}
    """Gates from above."""


class Load(Section):
    """What `sm-launch evaluate --load` looks for: the most requests a second within a limit."""

    p99_ms: Annotated[float, Field(gt=0)] = 1000
    """Limit of the 99th percentile of a request's latency, in milliseconds."""
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] = 256
    """Clients at a time, at most."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 5
    """How long each number of clients asks."""
    instance_types: list[str] = []
    """Types to price a million requests on; default: the endpoint's."""


class Evaluation(Section):
    """How good the model is, on data it has not seen."""

    task: EvaluationTask | None = None
    """What is asked; default: what the training method trains for."""
    data: str | None = None
    """Held-out file, directory or s3:// URI; default: the job's test channels, all data sets, or
    that of `data prepare`."""
    text_column: str | None = None
    """Column with the input; default: text, question, prompt (or messages) or tokens, by task."""
    text_pair_column: str | None = None
    """Column with the second text of a pair (text-classification); default: as training had it."""
    label_column: str | None = None
    """Column with the expected answer; default: label, answers, completion or tags, by task."""
    slices: list[str] = []
    """Columns whose every value gets metrics of its own (`data.columns.keep` carries them over)."""
    parameters: dict[str, Any] = {}
    """Sent with each request, such as {max_new_tokens: 64}."""
    answer_pattern: str | None = None
    """What exact match compares of generated text: `final` (after ####, in \\boxed{}, or the last
    number, as the reward exact_answer) or a regular expression whose first group is the answer."""
    perplexity: bool = False
    """Also ask how probable the expected answers are (text-generation; the endpoint must score a
    given text, as vLLM does)."""
    judge: JudgeSettings | None = None
    """Have generated answers graded by another model."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rows per request when throughput is measured."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Requests in flight at a time."""
    load: Load = Load()
    """How `sm-launch evaluate --load` finds the throughput at a limit of latency."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Evaluation fails when a larger share of rows gets no answer."""
    fail_under: dict[str, float] = {}
    """Gates, such as {accuracy: 0.85, f1_macro: 0.8}: exit code 3 when one is missed."""
    fail_over: dict[str, float] = {}
    """Gates from above, such as {ece: 0.1, latency_p95_ms: 200}."""
    benchmark: Benchmark | None = None
    """Standard tasks, which are asked with `--benchmark`."""
