"""What happens between the steps of a trainer: logs, progress, stops. Imports transformers."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sm_train.errors import StoppedBySignalError, UserError
from sm_train.log import print_line
from sm_train.platform.stopping import StopRequest
from sm_train.results.metrics import finite_or_none, log_line

PROGRESS_SECONDS = 10.0
_ESTIMATE_STEPS = 5
_MOST_BETWEEN_AGREEMENTS = 100
_LOSS_RISE = 1e4  # a loss this many times the best one so far has diverged
_LARGEST_WEIGHT = 1e9  # far beyond any model's; a step of such a size leaves finite weights


class LogCallback(TrainerCallback):  # type: ignore[misc]
    """Each log event as one `key=value` line on stdout and one JSON line in a file.

    It comes before the trackers, which get what it makes of an event: all use the same names.
    """

    def __init__(self, path: Path, fresh: bool) -> None:
        self.path = path
        self._mark: tuple[float, int, float] | None = None  # time, step, tokens
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock that throughput is measured with."""
        self._mark = (time.perf_counter(), state.global_step, 0.0)
        if state.global_step and state.is_world_process_zero:
            self._rewrite(state)

    def _rewrite(self, state: Any) -> None:
        """Resumed: what was logged after the checkpoint comes again, and the file may be new."""
        rows: list[dict[str, Any]] = []
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").split("\n")
            rows = [row for row in map(_log_row, lines) if row]
        rows = [row for row in rows if row["step"] <= state.global_step] or [
            {"step": event["step"], **event} for event in state.log_history
        ]
        text = "".join(
            json.dumps({key: finite_or_none(value) for key, value in row.items()}) + "\n"
            for row in rows
        )
        self.path.write_text(text, encoding="utf-8")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Print and record; add throughput since the last event."""
        if not state.is_world_process_zero or not logs:
            return
        values = {k: v for k, v in as_test_metrics(logs).items() if k != "epoch"}
        if "loss" in values:
            values.update(self._speed(args, state, values))
        epoch = round(float(logs.get("epoch") or state.epoch or 0.0), 4)
        write_log_row(self.path, {"step": state.global_step, "epoch": epoch, **values})
        kept = {key: logs[key] for key in ("epoch",) if key in logs}
        logs.clear()
        logs.update({**kept, **values})

    def _speed(self, args: Any, state: Any, values: dict[str, Any]) -> dict[str, float]:
        now, tokens = time.perf_counter(), float(values.get("num_tokens", 0.0))
        before, step, tokens_before = self._mark or (now, state.global_step, 0.0)
        self._mark = (now, state.global_step, tokens)
        seconds, steps = now - before, state.global_step - step
        if seconds <= 0 or steps <= 0:
            return {}
        samples = steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        speed = {"samples_per_second": samples / seconds}
        if tokens > tokens_before > 0:
            speed["tokens_per_second"] = (tokens - tokens_before) / seconds
        return speed

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Time spent on evaluation is not training time."""
        self._restart_clock(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Nor is time spent on saving."""
        self._restart_clock(state)

    def _restart_clock(self, state: Any) -> None:
        if self._mark is not None:
            self._mark = (time.perf_counter(), state.global_step, self._mark[2])


class PerplexityCallback(TrainerCallback):  # type: ignore[misc]
    """Beside each loss on held-out rows of a language model, its exponential."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Add it to the event and to the history that eval_results.json is made of."""
        timed = (key for key in logs or () if key.endswith("_runtime"))
        for prefix in [key.removesuffix("_runtime") for key in timed]:  # eval, test, eval_code
            loss = (logs or {}).get(f"{prefix}_loss")
            if logs is None or prefix == "train" or not isinstance(loss, int | float):
                continue
            perplexity = {f"{prefix}_perplexity": math.exp(loss) if loss < 700 else math.inf}
            logs.update(perplexity)
            state.log_history[-1].update(perplexity)


def log_first(trainer: Any) -> None:
    """Put the callbacks that name and add to what is logged before the trackers that send it."""
    first = (PerplexityCallback, LogCallback)
    trainer.callback_handler.callbacks.sort(key=lambda each: not isinstance(each, first))


def _log_row(line: str) -> dict[str, Any]:
    """A line of the log file; empty for one that a kill cut short or a disk spoilt."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else {}


def as_test_metrics(logs: dict[str, Any]) -> dict[str, Any]:
    """An event of the test channel under one prefix: TRL names part of it eval_…."""
    if not any(key.startswith("test_") for key in logs):
        return logs
    return {
        "test_" + key.removeprefix("eval_") if key.startswith("eval_") else key: value
        for key, value in logs.items()
    }


def write_log_row(path: Path, row: dict[str, Any]) -> None:
    """One event to the log file and to stdout."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: finite_or_none(v) for k, v in row.items()}) + "\n")
    print_line(log_line(row))


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """A line every few seconds: share done, step, epoch, elapsed and remaining time."""

    def __init__(self, every: float = PROGRESS_SECONDS) -> None:
        self.every = every
        self._begin = self._last = time.monotonic()
        self._first_step = 0
        self._after_first = self._begin

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember where a resumed run starts, or its speed would look too good."""
        self._begin = self._last = time.monotonic()
        self._first_step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Print when the last line is old enough, and an estimate after the first steps."""
        now = time.monotonic()
        done = state.global_step - self._first_step
        if done == 1:
            self._after_first = now  # the first step is slow: compiling, allocating
        elif done == _ESTIMATE_STEPS and state.is_world_process_zero:
            seconds = (now - self._after_first) / (done - 1)
            left = duration(seconds * (state.max_steps - state.global_step))
            print_line(
                f"estimated time: {left} for the {state.max_steps - state.global_step} steps left "
                f"({seconds:.3g} s a step; evaluations and saves come on top)"
            )
        if state.is_world_process_zero and now - self._last >= self.every:
            self._last = now
            print_line(self.line(state, now - self._begin))

    def line(self, state: Any, elapsed: float) -> str:
        """`progress 37% step 120/320 epoch 1.50/4 elapsed 1m02s eta 1m45s`."""
        done = max(state.global_step - self._first_step, 1)
        remaining = elapsed / done * (state.max_steps - state.global_step)
        share = 100 * state.global_step // max(state.max_steps, 1)
        return (
            f"progress {share}% step {state.global_step}/{state.max_steps} "
            f"{self._epoch(state)}"
            f"elapsed {duration(elapsed)} eta {duration(remaining)}"
        )

    @staticmethod
    def _epoch(state: Any) -> str:
        """A stream has no epochs: transformers counts without an end then."""
        endless = state.num_train_epochs >= sys.maxsize
        return "" if endless else f"epoch {state.epoch or 0:.2f}/{state.num_train_epochs:g} "


def duration(seconds: float) -> str:
    """75 → `1m15s`, 3700 → `1h01m`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Agreement:
    """Processes hear the signal at different moments, and must act on it at the same one."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self._every = 1  # asked so many times, all processes synchronise: about once a second
        self._asked = 0
        self._since = time.monotonic()

    def to_stop(self, args: Any) -> bool:
        """Whether any process was told to stop; all get the same answer from the same call."""
        if args.world_size == 1:
            return self.stop.requested
        self._asked += 1
        if self._asked < self._every:
            return False
        import torch

        seconds = (time.monotonic() - self._since) / self._asked
        heard = torch.tensor([float(self.stop.requested), seconds], device=args.device)
        torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
        self._every = max(1, min(_MOST_BETWEEN_AGREEMENTS, int(1 / max(heard[1].item(), 1e-3))))
        self._asked, self._since = 0, time.monotonic()
        return bool(heard[0].item())


class StopCallback(TrainerCallback):  # type: ignore[misc]
    """After SIGTERM: end with the current step, write a checkpoint, evaluate nothing."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self._steps, self._predictions = Agreement(stop), Agreement(stop)
        self._stopping = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask the trainer to save and to end."""
        if self._steps.to_stop(args):
            self._stopping = True
            control.should_training_stop = True
            control.should_evaluate = False
            control.should_save = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation may take longer than the grace time: leave it."""
        if self._predictions.to_stop(args):
            raise StoppedBySignalError(
                f"stopped by SIGTERM while evaluating step {state.global_step}"
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the trainer once the checkpoint is written."""
        if self._stopping or (self.stop.requested and args.world_size == 1):
            raise StoppedBySignalError(f"stopped by SIGTERM at step {state.global_step}")


class DivergenceCallback(TrainerCallback):  # type: ignore[misc]
    """A loss that is not a number, or explodes, never comes back: end before money is burnt."""

    def __init__(self) -> None:
        self._best = math.inf

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Raise UserError; the last checkpoint was written before the loss broke."""
        loss, norm = (logs or {}).get("loss"), (logs or {}).get("grad_norm", 0.0)
        if loss is None:
            return
        if not math.isfinite(loss) or not math.isfinite(norm) or loss > self._best * _LOSS_RISE:
            raise UserError(
                f"training diverged at step {state.global_step}: loss {loss}, gradient norm {norm}",
                field="learning_rate",
                value=args.learning_rate,
                fix="lower learning_rate, raise warmup_steps, or look for broken rows in the data",
            )
        self._best = min(self._best, abs(loss) + 1e-3)


class SoundWeightsCallback(TrainerCallback):  # type: ignore[misc]
    """No checkpoint, and no model, of weights that are not numbers: saves may outpace logs."""

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Just before the trainer saves, and deletes an older checkpoint."""
        if control.should_save:
            check_weights(others["model"], args, state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """As after a step: saves by epoch come here."""
        self.on_step_end(args, state, control, **others)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The model is about to be scored and exported."""
        check_weights(others["model"], args, state)


def check_weights(model: Any, args: Any, state: Any) -> None:
    """Raise UserError when a trained weight is no number, or one that no model has.

    Each process looks at its shards.
    """
    for name, weight in model.named_parameters():
        own = weight.to_local() if hasattr(weight, "to_local") else weight
        if weight.requires_grad and not bool((own.abs() < _LARGEST_WEIGHT).all()):
            raise UserError(
                f"training diverged by step {state.global_step}: {name} holds values that are no "
                f"numbers, or beyond {_LARGEST_WEIGHT:g}; the last checkpoint is from before",
                field="learning_rate",
                value=args.learning_rate,
                fix="lower learning_rate, raise warmup_steps, or look for broken rows and rewards",
            )
