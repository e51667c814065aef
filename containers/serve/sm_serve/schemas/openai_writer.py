"""Answers in OpenAI's wire format, whole or as server-sent events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sm_serve.protocol import Delta, TokenLogprob
from sm_serve.schemas.message_reader import MessageReader, Piece
from sm_serve.schemas.openai import Job, Usage


class Writer:
    """Writes one job's answer, whole or as server-sent events."""

    def __init__(self, job: Job, model: str, request_id: str) -> None:
        self._job = job
        self._base = {
            "id": f"{'chatcmpl' if job.chat else 'cmpl'}-{request_id}",
            "created": int(time.time()),
            "model": model,
        }
        self._readers: dict[int, MessageReader] = {}

    def whole(self, answers: Sequence[Delta]) -> dict[str, Any]:
        """The complete answer; `answers` holds n deltas for each prompt, in order."""
        choices = []
        for index, answer in enumerate(answers):
            choice: dict[str, Any] = {"index": index, "finish_reason": answer.finish_reason}
            choice["logprobs"] = self._logprobs(answer)
            if self._job.chat:
                piece = self._read(index, answer)
                choice["finish_reason"] = piece.reason
                choice["message"] = write_message(piece)
            else:
                choice["text"] = echoed(answer) + answer.text
            choices.append(choice)
        kind = "chat.completion" if self._job.chat else "text_completion"
        return {**self._base, "object": kind, "choices": choices, "usage": self.usage(answers)}

    def first(self, index: int) -> dict[str, Any]:
        """The chunk that tells a message's role."""
        return self._chunk([self._choice(index, {"role": "assistant", "content": ""}, None)])

    def piece(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """A chunk; None while what may be a tool call is held back."""
        if not self._job.chat:
            choice = {
                "index": index,
                "text": echoed(delta) + delta.text,
                "logprobs": self._logprobs(delta),
                "finish_reason": delta.finish_reason,
            }
            return self._counted(self._chunk([choice]), delta)
        parsed = self._read(index, delta)
        reason = parsed.reason
        content: dict[str, Any] = write_thought(parsed.thought)
        if parsed.text:
            content["content"] = parsed.text
        if parsed.calls:
            content["tool_calls"] = parsed.calls
        choice = {**self._choice(index, content, reason), "logprobs": self._logprobs(delta)}
        if not (content or reason or choice["logprobs"]):
            return None
        return self._counted(self._chunk([choice]), delta)

    def _counted(self, chunk: dict[str, Any], delta: Delta) -> dict[str, Any]:
        """With what the answer took so far, where the client wants to know it all the time."""
        if self._job.usage is not Usage.EACH:
            return chunk
        return {**chunk, "usage": write_usage(delta.prompt_tokens, delta.completion_tokens)}

    def _read(self, index: int, delta: Delta) -> Piece:
        """What a piece of a message holds, and why the message ended."""
        if index not in self._readers:
            self._readers[index] = MessageReader(self._job.tools, self._job.tool_format)
        piece = self._readers[index].read(delta)
        return piece if self._job.thoughts else replace(piece, thought="")

    def _logprobs(self, delta: Delta) -> dict[str, Any] | None:
        entries = (*(delta.echo.logprobs if delta.echo else ()), *delta.logprobs)
        if not entries:
            return None
        write = write_chat_logprobs if self._job.chat else write_completion_logprobs
        return write(entries)

    def last(self, answers: Sequence[Delta]) -> dict[str, Any]:
        """The chunk that tells the usage, when the client asked for it."""
        return {**self._chunk([]), "usage": self.usage(answers)}

    def usage(self, answers: Sequence[Delta]) -> dict[str, int]:
        """Tokens of the prompts, each once, and of all answers."""
        prompt = sum(answer.prompt_tokens for answer in answers[:: self._job.n])
        completion = sum(answer.completion_tokens for answer in answers)
        return write_usage(prompt, completion)

    @staticmethod
    def _choice(index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._job.chat else "text_completion"
        return {**self._base, "object": kind, "choices": choices}


def write_usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens of prompt and answer."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def write_thought(thought: str) -> dict[str, Any]:
    """A thought by the names of DeepSeek and of vLLM; nothing where there is none."""
    return {"reasoning_content": thought, "reasoning": thought} if thought else {}


def write_message(piece: Piece) -> dict[str, Any]:
    """A whole answer; the content is null where there are calls or thoughts and nothing else."""
    message: dict[str, Any] = {"role": "assistant", "content": piece.text, "refusal": None}
    message |= write_thought(piece.thought)
    if piece.calls or piece.thought:
        message["content"] = piece.text or None
    if piece.calls:
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} for call in piece.calls
        ]
    return message


def echoed(delta: Delta) -> str:
    """The prompt's text, where the request asked for it and this is the first piece."""
    return delta.echo.text if delta.echo else ""


def write_chat_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities as chat completions have them."""

    def token(entry: TokenLogprob) -> dict[str, Any]:
        whole = "\ufffd" not in entry.text  # a token may hold a part of a character only
        data = list(entry.text.encode()) if whole else None
        return {"token": entry.text, "logprob": entry.logprob, "bytes": data}

    content = [{**token(e), "top_logprobs": [token(other) for other in e.top]} for e in entries]
    return {"content": content, "refusal": None}


def write_completion_logprobs(entries: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log probabilities as completions have them; a prompt's first token has none."""
    return {
        "tokens": [entry.text for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        # Of tokens that read alike (parts of characters) the most probable one is told.
        "top_logprobs": [
            None if e.logprob is None else {o.text: o.logprob for o in (e, *reversed(e.top))}
            for e in entries
        ],
        "text_offset": [entry.offset for entry in entries],
    }
