"""What a served model's answer begins after is what stood before the answers of its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sm_train.config import parse_config
from sm_train.contract import Paths
from sm_train.job import Job
from sm_train.modelling.chat_templates import template_names, template_text
from sm_train.modelling.generation_prompt import as_made, settle_generation_prompt
from sm_train.platform.stopping import StopRequest
from sm_train.rows import Data

Rows = list[dict[str, Any]]
# They show no content that is text, or leave it out: the job is refused.
REFUSED = ("llava_next", "idefics3", "smolvlm")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"name": "add", "description": "Adds.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": ADD}]
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def chat(answer: str, **others: Any) -> dict[str, Any]:
    """The last turn may say more than its content."""
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    turns += [{"role": "user", "content": "so"}]
    return {"messages": [*turns, {"role": "assistant", "content": answer, **others}]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def settled(tokenizer: Any, tmp_path: Path) -> Callable[..., Any]:
    def settle(template: str, rows: Rows, method: str = "sft") -> Callable[..., str]:
        """Renders as the artefact does."""
        config = parse_config({"method": "sft"})
        config = replace(config, method=replace(config.method, name=method))
        paths = Paths(tmp_path)
        job = Job(paths, config, Data(rows, None, None, {}), "", StopRequest(), 0.0)
        tokenizer.chat_template = template_text(paths, template)
        settle_generation_prompt(job, tokenizer)

        def render(row: dict[str, Any], *, prompt: bool = False, **options: Any) -> str:
            turns = row["messages"][:-1] if prompt else row["messages"]
            options |= {"add_generation_prompt": prompt, "tokenize": False}
            return str(tokenizer.apply_chat_template(turns, **options))

        return render

    return settle


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in template_names() if name not in REFUSED])
def test_an_answer_begins_as_in_training(
    name: str, settled: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    row = chat("fine")
    # What comes after a call is its makers' matter.
    called = [*row["messages"][:1], {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    result = {"messages": [*called, {"role": "tool", "content": "2"}, {}]}
    untouched = settled(name, [row], method="grpo")
    before = [untouched(row), untouched(row, tools=TOOLS)]
    after_call = untouched(result, prompt=True) if name.startswith("deepseek") else ""
    render = settled(name, [row, chat("well")])
    assert [render(row), render(row, tools=TOOLS)] == before
    start = before[0][: before[0].rindex("fine")]
    assert render(row, prompt=True).rstrip() == start.rstrip()
    assert as_made(tokenizer.chat_template) == template_text(Paths(tmp_path), name)
    assert not after_call or render(result, prompt=True) == after_call


@pytest.mark.parametrize(
    "rows",
    [
        [chat("fine"), chat("<think>hm</think>fine")],
        [chat("fine"), chat("fine", reasoning_content="hm")],
        [chat("<think>\nso\n</think>\n\nfine"), chat("<think>\nhm\n</think>\n\nfine")],
    ],
    ids=["some think", "one thinks", "all think"],
)
def test_a_model_that_learnt_to_think_begins_as_its_makers_have_it(
    rows: Rows, settled: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    settled("qwen3", rows)
    assert tokenizer.chat_template == template_text(Paths(tmp_path), "qwen3")


def test_a_model_with_tools_may_still_call_them(
    settled: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    settled("gptoss", [{**chat("fine"), "tools": TOOLS}])
    assert tokenizer.chat_template == template_text(Paths(tmp_path), "gptoss")
    render = settled("deepseekv3", [{**chat("fine"), "tools": TOOLS}])
    assert render(chat("fine"), prompt=True).endswith("<｜Assistant｜>")
