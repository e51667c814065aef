"""A conversation with an endpoint: the messages so far, and streamed answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sm_launch.hosting import streaming
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext


@dataclass
class Conversation:
    """Messages of the OpenAI form; an answer that broke off is not remembered.

    Attributes:
        session: where the endpoint runs.
        endpoint: its name.
        parameters: of every request, such as max_tokens and temperature.
        system: first message of every conversation; empty for none.
        component: inference component that is asked; None on endpoints without.
        messages: what was said so far.
        seconds_to_first: until the last answer began.
        seconds: that the last answer took.
        pieces: of the last answer; about its tokens.
    """

    session: Session
    endpoint: str
    parameters: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    component: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)
    seconds_to_first: float = 0.0
    seconds: float = 0.0
    pieces: int = 0

    def ask(self, text: str) -> Iterator[str]:
        """Say something; the answer comes piece by piece.

        Raises:
            LaunchError: the stream broke off, or the model answered with an error.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        first = [{"role": "system", "content": self.system}] if self.system else []
        body = {"messages": [*first, *asked], "stream": True, **self.parameters}
        start = time.monotonic()
        self.pieces, answer = 0, ""
        reply = self.session.invoke_endpoint_with_response_stream(
            EndpointName=self.endpoint,
            Body=json.dumps(body).encode(),
            ContentType="application/json",
            Accept="*/*",
            **({"InferenceComponentName": self.component} if self.component else {}),
        )
        for piece in streaming.texts(streaming.chunks(reply["Body"])):
            if not self.pieces:
                self.seconds_to_first = time.monotonic() - start
            self.pieces += 1
            answer += piece
            yield piece
        self.seconds = time.monotonic() - start
        self.messages = [*asked, {"role": "assistant", "content": answer}]

    def forget(self) -> None:
        """Begin anew."""
        self.messages = []


def begin(
    context: JobContext,
    endpoint: str,
    *,
    system: str = "",
    max_tokens: int = 512,
    temperature: float | None = None,
    component: str | None = None,
) -> Conversation:
    """A conversation in which nothing was said yet.

    Args:
        context: where the endpoint is.
        endpoint: its name.
        system: first message of every conversation; empty for none.
        max_tokens: of an answer.
        temperature: of sampling; 0 takes always the likeliest token.
        component: inference component that is asked.

    Raises:
        Exception: the session's, where there is no such endpoint.
    """
    parameters: dict[str, Any] = {"max_tokens": max_tokens}
    if temperature is not None:
        parameters["temperature"] = temperature
    context.session.describe_endpoint(EndpointName=endpoint)
    return Conversation(context.session, endpoint, parameters, system, component)
