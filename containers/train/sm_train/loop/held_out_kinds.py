"""How the rows of each of TRL's methods are scored: pairs, judged answers, sampled answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from sm_train.loop.held_out import LOSS, Scores
from sm_train.settings.settings import Method

# Losses of GRPO that are means of tokens; the others are means of answers.
_OF_TOKENS = ("bnpo", "cispo", "dapo", "vespo")
_CLIPPED = tuple(f"clip_ratio/{part}_mean" for part in ("low", "high", "region"))


def score_by_rows(trainer: Any, method: Method[Any]) -> None:
    """Let a trainer of TRL weigh what it measures on held-out rows; leaves other trainers alone."""
    if method.held_out is not None:
        scores = {"judged": JudgedScores, "sampled": SampledScores}.get(method.answers, Scores)
        scores(trainer, method.held_out).install()


class JudgedScores(Scores):
    """KTO's: its loss asks how far the model has moved on answers to other prompts.

    TRL takes the mean of a batch for it, and in each batch of training gives every prompt the
    answer before it. Here it is the mean of all held-out rows, over all of which the answers move.
    """

    def install(self) -> None:
        """As for other methods; and rows that are evaluated get answers from all of the others."""
        super().install()
        self._make_dataloader = self._trainer.get_eval_dataloader
        self._kl_logps = self._trainer._compute_kl_logps
        self._trainer.get_eval_dataloader = self._dataloader
        self._references: deque[tuple[Any, Any]] = deque()
        self._moved: list[float] = []

    def loop(self, dataloader: Any, *arguments: Any, **named: Any) -> Any:
        """First how far the model has moved on all rows, then what each row makes of it."""
        from accelerate.utils import gather_object

        trainer = self._trainer
        if not trainer.calculate_KL:
            return super().loop(dataloader, *arguments, **named)
        self._references.clear()
        self._moved.clear()
        self._begin(dataloader)
        trainer.prediction_step = self._look
        try:
            self._loop(dataloader, *arguments, **named)
        finally:
            trainer.prediction_step = self.step
        moved = gather_object(list(self._moved))
        apart = max(sum(moved) / max(len(moved), 1), 0.0)
        precomputed = trainer.precompute_ref_logps
        trainer.precompute_ref_logps = True
        trainer._compute_kl_logps = lambda _, batch: batch["ref_KL_logps"] + apart
        try:
            return super().loop(dataloader, *arguments, **named)
        finally:
            trainer.precompute_ref_logps = precomputed
            trainer._compute_kl_logps = self._kl_logps

    def _look(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        """One batch of answers to other prompts; what the reference makes of it is kept."""
        import torch

        trainer = self._trainer
        own, real = self._without_filling(trainer._prepare_inputs(inputs))
        with torch.no_grad(), trainer.compute_loss_context_manager():
            if "ref_logps" in own:
                reference = own["ref_logps"], own["ref_KL_logps"]
            else:
                reference = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, own)
            moved = self._kl_logps(model, own) - reference[1]
        self._references.append(reference)
        self._moved.extend(moved[:real].tolist())
        return moved.new_zeros(()), None, None

    def _own(self, inputs: Any) -> tuple[dict[str, Any], int]:
        own, real = super()._own(inputs)
        if self._references:
            logps, others = self._references.popleft()
            own = {**own, "ref_logps": logps, "ref_KL_logps": others * 0}
        return own, real

    def _weights(self, inputs: Mapping[str, Any], real: int) -> dict[str, float]:
        weights = super()._weights(inputs, real)
        good = inputs["label"].bool()
        for name, rows in (("chosen", good), ("rejected", ~good)):
            count = float(rows.sum()) if real else 0.0
            weights[f"rewards/{name}"] = weights[f"logps/{name}"] = count
            tokens = float(self._learnt(inputs)[rows].sum())
            weights[f"logits/{name}"] = tokens if real else 0.0
        return weights

    def _settled(self, together: dict[str, float]) -> dict[str, float]:
        sides = [together.get(f"rewards/{name}") for name in ("chosen", "rejected")]
        if sides[0] is not None and sides[1] is not None:
            together["rewards/margins"] = sides[0] - sides[1]
        return together

    def _dataloader(self, dataset: Any = None) -> Any:
        """Each prompt with the answer of the row before it, however training is batched."""
        known = self._trainer.eval_dataset
        rows = known if dataset is None else known[dataset] if isinstance(dataset, str) else dataset
        columns = rows.column_names
        if "KL_completion_ids" in columns and "ref_KL_logps" not in columns:
            answers = list(rows["completion_ids"])
            rows = rows.remove_columns("KL_completion_ids")
            rows = rows.add_column("KL_completion_ids", [*answers[-1:], *answers[:-1]])
        return self._make_dataloader(rows)


class SampledScores(Scores):
    """Of methods whose model answers itself: rewards and lengths are those of all answers."""

    def install(self) -> None:
        """As for other methods; and note what is answered and what it is worth."""
        super().install()
        trainer = self._trainer
        self._prepare = trainer._prepare_inputs
        self._seen: dict[str, list[Any]] = {}
        self._rewards: list[Any] = []
        trainer._prepare_inputs = self._given
        for name in ("_generate", "_calculate_rewards", "_get_per_token_logps_and_entropies"):
            if hasattr(trainer, name):
                self._note(name)

    def _note(self, name: str) -> None:
        call = getattr(self._trainer, name)

        def noted(*arguments: Any, **named: Any) -> Any:
            result = call(*arguments, **named)
            if not self._trainer.model.training:
                self._seen.setdefault(name, []).append(result)
            return result

        setattr(self._trainer, name, noted)

    def _given(self, inputs: Any) -> Any:
        """A batch whose answers are there already is not answered again."""
        return inputs if self._measuring else self._prepare(inputs)

    def _begin(self, dataloader: Any) -> None:
        super()._begin(dataloader)
        self._rewards.clear()

    def _repeats(self) -> int:
        return int(getattr(self._trainer, "num_generations_eval", 1))

    def _own(self, inputs: Any) -> tuple[dict[str, Any], int]:
        self._seen.clear()
        answered = self._prepare(inputs)  # with all processes: they share a prompt's answers
        own, real = self._without_filling(answered)
        if rewards := self._seen.get("_calculate_rewards"):
            count = self._last_rows if self._in_short_batch() else len(rewards[0])
            self._rewards.append(rewards[0][:count].cpu())
        if "num_items_in_batch" in own:
            all_as_this = self._learnt(own).sum() * self._trainer.accelerator.num_processes
            own = {**own, "num_items_in_batch": all_as_this}
        self._note_answers(own)
        return own, real

    def _note_answers(self, inputs: Mapping[str, Any]) -> None:
        """Replace what TRL has noted of the answers of all processes, filling included."""
        kept, learnt = self._kept(), self._learnt(inputs)
        answers = self._seen["_generate"][0][1][: len(learnt)]
        ended = self._ended(answers)
        for name, chosen in (("", answers), ("terminated_", ended)):
            lengths = [len(answer) for answer in chosen] or [0]
            kept[f"completions/mean_{name}length"] = [sum(lengths) / len(lengths)]
            kept[f"completions/min_{name}length"] = [float(min(lengths))]
            kept[f"completions/max_{name}length"] = [float(max(lengths))]
        kept["completions/clipped_ratio"] = [1 - len(ended) / len(answers)]
        if "old_logps" in inputs and "kl" in kept:  # RLOO's, which is part of the reward
            before, base = (noted[0] for noted in self._seen["_get_per_token_logps_and_entropies"])
            apart = (before - base)[: len(learnt)] * learnt
            kept["kl"] = [float(apart.sum() / learnt.sum().clamp(min=1))]

    def _ended(self, answers: list[list[int]]) -> list[list[int]]:
        """Those that the model ended itself."""
        ends = {*self._trainer.eos_token_ids, self._trainer._tokenizer.pad_token_id}
        return [answer for answer in answers if answer[-1] in ends]

    def _weights(self, inputs: Mapping[str, Any], real: int) -> dict[str, float]:
        weights = super()._weights(inputs, real)
        if getattr(self._trainer, "loss_type", None) in _OF_TOKENS:
            weights[LOSS] = weights["entropy"]
        if getattr(self._trainer, "importance_sampling_level", None) == "token":
            weights |= dict.fromkeys(_CLIPPED, weights["entropy"])
        answers = self._seen["_generate"][0][1][:real]
        ended = float(len(self._ended(answers)))
        for figure in ("mean", "min", "max"):
            weights[f"completions/{figure}_terminated_length"] = ended
        return weights

    def _learnt(self, inputs: Mapping[str, Any]) -> Any:
        return inputs["completion_mask"] * inputs.get("tool_mask", 1)

    def _settled(self, together: dict[str, float]) -> dict[str, float]:
        if self._rewards:
            together |= self._reward_scores()
        return together

    def _reward_scores(self) -> dict[str, float]:
        """What all answers are worth; every process has them all, a prompt's beside each other."""
        import torch
        from trl.trainer.utils import nanstd

        trainer, rewards = self._trainer, torch.cat(self._rewards)
        scores = {}
        for name, values in zip(trainer.reward_func_names, rewards.T, strict=True):
            scores[f"rewards/{name}/mean"] = float(values.nanmean())
            scores[f"rewards/{name}/std"] = float(nanstd(values))
        whole = (rewards * trainer.reward_weights.cpu()).nansum(dim=1)
        whole[rewards.isnan().all(dim=1)] = torch.nan
        scores["reward"], scores["reward_std"] = float(whole.nanmean()), float(nanstd(whole))
        groups = whole.view(-1, self._repeats())
        apart = groups.nan_to_num(nan=-torch.inf).amax(1) - groups.nan_to_num(nan=torch.inf).amin(1)
        scores["frac_reward_zero_std"] = float((apart < 1e-8).float().mean())
        return scores
