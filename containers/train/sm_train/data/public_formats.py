"""The prompts of public data sets, as their makers mean them: Alpaca, ShareGPT, Orca, OpenAI, HH.

Each function reads a raw row and gives what TRL calls prompt, completion, chosen and rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sm_train.data.messages import Message, conversation

if TYPE_CHECKING:
    from sm_train.settings.settings import Config

# Stanford Alpaca's prompts: https://github.com/tatsu-lab/stanford_alpaca#data-release
_ALPACA = (
    "Below is an instruction that describes a task{paired}. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n{context}### Response:\n"
)
_PAIRED = ", paired with an input that provides further context"
_HH_ANSWER = "\n\nAssistant:"  # Anthropic's HH writes whole dialogues as one text
_SYSTEM = ("system", "system_prompt")
_CONTEXTS = ("input", "context")
_ANSWERS = ("completion", "output", "response")
Turns = str | list[Message]


def stated_prompt(row: dict[str, Any], config: Config, questions: tuple[str, ...] = ()) -> Any:
    """What a row says as its prompt, under any of its names; None when there is none.

    `questions`: other columns that hold a prompt where there is no better one.
    """
    if config.job.prompt_template is not None:
        return row.get("prompt")
    if row.get("prompt") is not None:
        return _with_system(row, _with_input(row, config))
    if instruction := _text(row, "instruction"):
        return _instruction(row, instruction, config)
    for name in ("conversations", "messages", *questions):
        if row.get(name) is None:
            continue
        value = row[name]
        return with_system(row, conversation(value, name)) if name in _CHATS else _asked(row, value)
    return None


_CHATS = ("conversations", "messages")


def stated_answer(row: dict[str, Any]) -> Any:
    """The answer of a row that states its prompt: completion, or Alpaca's output."""
    return next((row[name] for name in _ANSWERS if row.get(name) is not None), None)


def with_system(row: dict[str, Any], messages: list[Message]) -> list[Message]:
    """A conversation after the system message that stands in a column of its own."""
    text = next((value for name in _SYSTEM if (value := _text(row, name))), "")
    if not text or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text}, *messages]


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else ""


def _asked(row: dict[str, Any], text: Any) -> list[Message]:
    """A question as a user's message."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the prompt is empty")
    return with_system(row, [{"role": "user", "content": text}])


def _with_system(row: dict[str, Any], prompt: Any) -> Any:
    """A prompt beside a column for the system message is a message itself."""
    if not any(name in row for name in _SYSTEM):
        return prompt
    if isinstance(prompt, str):
        return _asked(row, prompt) if prompt.strip() else prompt
    return with_system(row, conversation(prompt, "prompt"))


def _with_input(row: dict[str, Any], config: Config) -> Any:
    """An instruction that was renamed to prompt is Alpaca's all the same beside its input."""
    prompt = row["prompt"]
    renamed = config.job.columns.get("instruction") == "prompt"
    if not renamed or not any(name in row for name in _CONTEXTS) or not isinstance(prompt, str):
        return prompt
    return _instruction(row, prompt, config) if prompt.strip() else prompt


def _instruction(row: dict[str, Any], instruction: str, config: Config) -> Turns:
    """Alpaca's instruction and input (Dolly's context), or a chat where the job wants one."""
    context = next((value for name in _CONTEXTS if (value := _text(row, name))), "")
    chat = any(name in row for name in (*_SYSTEM, "history")) or config.job.chat_template
    if chat:
        asked = f"{instruction}\n\n{context}" if context else instruction
        return with_system(row, [*_history(row), {"role": "user", "content": asked}])
    return _ALPACA.format(
        paired=_PAIRED if context else "",
        instruction=instruction,
        context=f"### Input:\n{context}\n\n" if context else "",
    )


def _history(row: dict[str, Any]) -> list[Message]:
    """Earlier turns, as pairs of a question and its answer."""
    pairs = row.get("history") or []
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("history is not a list of pairs of question and answer")
    return [
        {"role": role, "content": str(text)}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def openai_preference(row: dict[str, Any]) -> dict[str, Any] | None:
    """OpenAI's preference format as prompt, chosen and rejected; None for another one."""
    if row.get("preferred_output") is None or not isinstance(row.get("input"), dict):
        return None
    asked = row["input"]
    converted = {
        "prompt": conversation(asked.get("messages"), "input.messages"),
        "chosen": conversation(row["preferred_output"], "preferred_output"),
        "rejected": conversation(row.get("non_preferred_output"), "non_preferred_output"),
    }
    return {**converted, **({"tools": asked["tools"]} if asked.get("tools") else {})}


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many items two sequences begin with in common."""
    pairs = zip(first, second, strict=False)
    shorter = min(len(first), len(second))
    return next((i for i, (left, right) in enumerate(pairs) if left != right), shorter)


def split_dialogues(chosen: str, rejected: str) -> dict[str, Any] | None:
    """HH's two dialogues as their common prompt and the two last answers; None for other text."""
    if _HH_ANSWER not in chosen or _HH_ANSWER not in rejected:
        return None
    end = chosen.rfind(_HH_ANSWER, 0, common_length(chosen, rejected))
    if end < 0:
        raise ValueError("chosen and rejected do not begin with the same prompt")
    end += len(_HH_ANSWER)
    parts = {"prompt": chosen[:end], "chosen": chosen[end:], "rejected": rejected[end:]}
    if not parts["chosen"].strip() or not parts["rejected"].strip():
        raise ValueError("an answer is empty behind what chosen and rejected have in common")
    return parts
