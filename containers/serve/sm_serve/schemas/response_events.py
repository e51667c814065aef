"""Answers of OpenAI's Responses API: the events of a stream, and the whole response at its end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from sm_serve.errors import ServeError
from sm_serve.protocol import Delta
from sm_serve.schemas.message_reader import MessageReader
from sm_serve.schemas.responses import Asked

Event = dict[str, Any]


class ResponseWriter:
    """Writes one response. Events are numbered from 0 on."""

    def __init__(self, asked: Asked, model: str, request_id: str) -> None:
        self._reader = MessageReader(asked.job.tools, asked.job.tool_format)
        self._number = 0
        self._item: dict[str, Any] | None = None
        self._thought_tokens = 0
        fields = asked.fields
        self.response: dict[str, Any] = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": fields.get("instructions"),
            "max_output_tokens": fields.get("max_output_tokens"),
            "model": model,
            "output": [],
            "parallel_tool_calls": fields.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None, **fields.get("reasoning", {})},
            "service_tier": "default",
            "store": False,
            "temperature": fields["temperature"],
            "text": {"format": {"type": "text"}, **fields.get("text", {})},
            "tool_choice": fields.get("tool_choice", "auto"),
            "tools": fields.get("tools", []),
            "top_p": fields["top_p"],
            "truncation": "disabled",
            "usage": None,
            "user": fields.get("user"),
            "metadata": fields.get("metadata", {}),
        }

    def begin(self, delta: Delta) -> Iterator[Event]:
        """The first events, and those of the first delta."""
        yield self._whole("response.created")
        yield self._whole("response.in_progress")
        yield from self.push(delta)

    def push(self, delta: Delta) -> Iterator[Event]:
        """The events of a delta; of the last one the end's too."""
        piece = self._reader.read(delta)
        if piece.thought:
            yield from self._add_text("reasoning", piece.thought)
        if piece.thought or self._reader.thinking:
            self._thought_tokens = delta.completion_tokens
        if piece.text:
            yield from self._add_text("message", piece.text)
        for call in piece.calls:
            yield from self._add_call(call)
        if piece.reason is None:
            return
        if not self.response["output"]:
            yield from self._open_text("message")
        cut = piece.reason == "length"
        yield from self._close(cut=cut)
        self.response["status"] = "incomplete" if cut else "completed"
        self.response["usage"] = self._usage(delta)
        if cut:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.response["completed_at"] = int(time.time())
        yield self._whole(f"response.{self.response['status']}")

    def fail(self, error: ServeError) -> Event:
        """The last event where the model fails."""
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": error.message}
        return self._whole("response.failed")

    def _event(self, kind: str, **content: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **content}

    def _whole(self, kind: str) -> Event:
        return self._event(kind, response={**self.response, "output": [*self.response["output"]]})

    @property
    def _place(self) -> dict[str, Any]:
        """Where an event of the open item belongs."""
        item = self._item or {}
        return {"item_id": item["id"], "output_index": len(self.response["output"]) - 1}

    def _open(self, item: dict[str, Any]) -> Iterator[Event]:
        yield from self._close()
        self._item = item
        self.response["output"].append(item)
        place = self._place["output_index"]
        yield self._event("response.output_item.added", output_index=place, item=_copy(item))

    def _open_text(self, kind: str) -> Iterator[Event]:
        """Begins a thought or a message, and its one part."""
        if kind == "reasoning":
            item: dict[str, Any] = {"id": _name("rs"), "type": kind, "summary": [], "content": [],
                    "status": "in_progress"}  # fmt: skip
            part: dict[str, Any] = {"type": "reasoning_text", "text": ""}
        else:
            item = {"id": _name("msg"), "type": kind, "role": "assistant", "content": [],
                    "status": "in_progress"}  # fmt: skip
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield from self._open(item)
        yield self._event("response.content_part.added", **self._place, content_index=0,
                          part=dict(part))  # fmt: skip
        item["content"] = [part]

    def _add_text(self, kind: str, text: str) -> Iterator[Event]:
        if self._item is None or self._item["type"] != kind:
            yield from self._open_text(kind)
        part = self._part
        part["text"] += text
        yield self._event(
            f"response.{part['type']}.delta", **self._place, content_index=0, delta=text,
            **_logprobs(part),
        )  # fmt: skip

    @property
    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = (self._item or {})["content"][0]
        return part

    def _add_call(self, call: dict[str, Any]) -> Iterator[Event]:
        """Begins a call, or goes on with its arguments."""
        if "id" in call:
            yield from self._open(
                {"id": _name("fc"), "type": "function_call", "call_id": call["id"],
                 "name": call["function"]["name"], "arguments": "", "status": "in_progress"}
            )  # fmt: skip
        text = call["function"]["arguments"]
        if text and self._item is not None:
            self._item["arguments"] += text
            yield self._event("response.function_call_arguments.delta", **self._place, delta=text)

    def _close(self, *, cut: bool = False) -> Iterator[Event]:
        """Ends the open item."""
        item = self._item
        if item is None:
            return
        item["status"] = "incomplete" if cut else "completed"
        if item["type"] == "function_call":
            yield self._event(
                "response.function_call_arguments.done", **self._place, name=item["name"],
                arguments=item["arguments"],
            )  # fmt: skip
        else:
            part = self._part
            yield self._event(
                f"response.{part['type']}.done", **self._place, content_index=0,
                text=part["text"], **_logprobs(part),
            )  # fmt: skip
            yield self._event("response.content_part.done", **self._place, content_index=0,
                              part=dict(part))  # fmt: skip
        place = self._place["output_index"]
        yield self._event("response.output_item.done", output_index=place, item=_copy(item))
        self._item = None

    def _usage(self, delta: Delta) -> dict[str, Any]:
        read, written = delta.prompt_tokens, delta.completion_tokens
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": self._thought_tokens},
            "total_tokens": read + written,
        }


def _logprobs(part: dict[str, Any]) -> dict[str, Any]:
    """Events of an answer's text, and they alone, have a place for log probabilities."""
    return {"logprobs": []} if part["type"] == "output_text" else {}


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is now."""
    return {k: [dict(part) for part in v] if isinstance(v, list) else v for k, v in item.items()}


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"
