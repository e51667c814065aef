"""Evaluation by generation: a language model answers held-out prompts, and is scored by the text.

Greedy, by the tokens that a server would give it. The loss says how likely the expected answer is;
this says what is written instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sm_train.data.mixing import rows_apart
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.modelling.sequences import asked
from sm_train.results.generated_text import text_scores
from sm_train.results.samples import Sample, show_samples


@dataclass(frozen=True)
class Question:
    """A held-out prompt as tokens and as text, and the answer that its row has."""

    ids: list[int]
    prompt: str
    expected: str


def questions(job: Job, tokenizer: Any, split: str, most: int) -> dict[str, list[Question]]:
    """The first rows of each data set of a split that ask something, by its name ("" for one)."""
    rows = job.data.split(split) or []
    chosen: dict[str, list[Question]] = {}
    for name, places in rows_apart(job.data, split).items():
        chosen[name] = []
        for place in places:
            row = {key: value for key, value in rows[place].items() if value is not None}
            made = asked(row, tokenizer) if len(chosen[name]) < most else None
            if made is not None:
                chosen[name].append(Question(made[0], tokenizer.decode(made[0]), made[1]))
    return chosen


class Answers:
    """Answers of the model at each evaluation, and their scores among its metrics."""

    def __init__(self, job: Job, trainer: Any, tokenizer: Any, most: int, new_tokens: int) -> None:
        self._job, self._trainer, self._tokenizer = job, trainer, tokenizer
        self._most, self._new_tokens = most, new_tokens
        self._questions = {
            prefix: questions(job, tokenizer, split, most)
            for prefix, split in (("eval", "validation"), ("test", "test"))
        }
        self._step = -1
        self._kept: dict[int, str] = {}  # of that step's weights, by the question's identity

    def install(self) -> None:
        """Put itself around the trainer's evaluation.

        Raises UserError where no validation row has a prompt.
        """
        asks = {prefix: sum(map(len, of.values())) for prefix, of in self._questions.items()}
        for prefix, split in (("eval", "validation"), ("test", "test")):
            if self._job.data.split(split) and not asks[prefix]:
                raise UserError(
                    f"wants prompts, and the {split} channel has none",
                    field="predict_with_generate",
                    value=True,
                    fix="give rows with prompt and completion, or messages; or remove it",
                )
        if self._job.is_main:
            print_line(
                f"each evaluation lets the model answer {asks['eval']} validation prompts (at most "
                f"{self._most} of a data set, {self._new_tokens} tokens each)"
            )
        self._loop = self._trainer.evaluation_loop
        self._trainer.evaluation_loop = self.loop

    def loop(self, *arguments: Any, **named: Any) -> Any:
        """An evaluation with the scores of the answers to its rows."""
        prefix = str(named.get("metric_key_prefix", "eval"))
        split, _, name = prefix.partition("_")
        of_split = self._questions.get(split, {})
        own = of_split.get(name, []) if name else [q for part in of_split.values() for q in part]
        output = self._loop(*arguments, **named)
        if own:
            texts = self._answered(own)
            scores = text_scores(texts, [question.expected for question in own])
            output.metrics.update({f"{prefix}_{key}": value for key, value in scores.items()})
            if self._job.is_main:
                samples = [
                    Sample(question.prompt, text, question.expected)
                    for question, text in zip(own, texts, strict=True)
                ]
                step = self._trainer.state.global_step
                show_samples(self._job.paths.output_data, step, prefix, samples)
        return output

    def _answered(self, own: Sequence[Question]) -> list[str]:
        """An answer to each; one data set's rows are among all of them, and are asked once."""
        if self._trainer.state.global_step != self._step:
            self._kept.clear()
            self._step = self._trainer.state.global_step
        new = [question for question in own if id(question) not in self._kept]
        for question, text in zip(new, self._generated(new), strict=True):
            self._kept[id(question)] = text
        return [self._kept[id(question)] for question in own]

    def _generated(self, asked_now: Sequence[Question]) -> list[str]:
        from accelerate.utils import gather_object
        from trl.models.utils import unwrap_model_for_generation

        trainer = self._trainer
        accelerator = trainer.accelerator
        processes, rank = accelerator.num_processes, accelerator.process_index
        # As many batches in each process: where it shares the weights, all take part in each.
        batch = trainer.args.per_device_eval_batch_size
        shares = [list(range(start, len(asked_now), processes)) for start in range(processes)]
        rounds = -(-len(shares[0]) // batch) if shares[0] else 0
        answers: list[tuple[int, str]] = []
        unwrapped = unwrap_model_for_generation(trainer.model_wrapped, accelerator)
        with unwrapped as model, _evaluating(model):
            for turn in range(rounds):
                places = shares[rank][turn * batch : (turn + 1) * batch]
                texts = self._batch(model, [asked_now[p] for p in places] or asked_now[:1])
                answers += zip(places, texts, strict=False)
                # As after each batch that is scored: a job that is stopped does not go on.
                handler = trainer.callback_handler
                trainer.control = handler.on_prediction_step(
                    trainer.args, trainer.state, trainer.control
                )
        gathered = dict(gather_object(answers))
        return [gathered[place] for place in range(len(asked_now))]

    def _batch(self, model: Any, asked_now: Sequence[Question]) -> list[str]:
        """Padded on the left, so that all answers begin at one place."""
        import torch
        from transformers import GenerationConfig

        tokenizer, device = self._tokenizer, self._trainer.accelerator.device
        width = max(len(question.ids) for question in asked_now)
        pad = tokenizer.pad_token_id
        ids = [[pad] * (width - len(q.ids)) + q.ids for q in asked_now]
        mask = [[0] * (width - len(q.ids)) + [1] * len(q.ids) for q in asked_now]
        ends = model.generation_config.eos_token_id
        greedy = GenerationConfig(
            max_new_tokens=self._new_tokens,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id if ends is None else ends,
            use_cache=True,
        )
        with torch.no_grad(), self._trainer.compute_loss_context_manager():
            made = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=greedy,
            )
        texts = tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
        return [text.strip() for text in texts]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
