"""What Hugging Face's pipelines add to an encoder-decoder: a prefix, languages, own parameters.

The task is that of HF_TASK: summarization, translation, translation_en_to_fr, and so on. What a
checkpoint wants done for it stands in `task_specific_params` of its config.json (T5, BART).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sm_serve.artefact.artefact import TRANSLATION
from sm_serve.engines.generators.languages import SOURCE, TARGET, Languages
from sm_serve.errors import BadRequest


class PipelineTask:
    """The task of a model: what goes before each text, and the languages of a translation."""

    def __init__(self, tokenizer: Any, name: str = "", prefix: str = "") -> None:
        self.prefix = prefix
        self.languages = Languages(tokenizer)
        self._translates = name.startswith("translation")
        self._own = self._own_languages(tokenizer, name) if self.languages.tokens else {}

    @staticmethod
    def _own_languages(tokenizer: Any, name: str) -> dict[str, str]:
        """Those of the task's name, else those that were saved with the tokenizer."""
        if named := TRANSLATION.fullmatch(name):
            return {SOURCE: named["source"], TARGET: named["target"]}
        source, target = (getattr(tokenizer, each, None) for each in (SOURCE, TARGET))
        return {SOURCE: source, TARGET: target} if source and target else {}

    def choose_languages(self, beams: Mapping[str, Any], *, as_pipeline: bool) -> dict[str, Any]:
        """The parameters with both languages where the task needs them, else with none.

        Raises BadRequest where one is missing or unknown, or the model knows no languages.
        """
        asked = [name for name in (SOURCE, TARGET) if name in beams]
        if asked and not self.languages.tokens:
            raise BadRequest(
                f"parameters.{asked[0]}={beams[asked[0]]!r}: this model's tokenizer knows no"
                " languages: leave it out",
                code="invalid_parameter",
            )
        if not asked and not (as_pipeline and self._translates and self.languages.tokens):
            return dict(beams)
        chosen = {**self._own, **beams}
        self.languages.check(chosen)
        return chosen


def task_parameters(config: Mapping[str, Any], task: str | None) -> tuple[str, dict[str, Any]]:
    """The prefix of an encoder-decoder's texts for a task, and its own parameters of `generate`."""
    if not config.get("is_encoder_decoder"):
        return "", {}
    specific = config.get("task_specific_params") or {}
    parameters = dict(specific.get(task or "") or {})
    prefix = parameters.pop("prefix", None) or config.get("prefix") or ""
    return str(prefix), parameters
