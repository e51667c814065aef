"""Answers held to a JSON schema, a regular expression, a choice or a grammar, by llguidance.

A hundred bytes of a regular expression can take minutes, and no limit of llguidance's covers all of
it. So each constraint is followed by a process of its own (`grammar_main`), which the kernel ends
when a step takes too long: that constraint is refused, and the batch goes on.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sm_serve.engines.process.frames import receive_frame, write_frame
from sm_serve.errors import BadRequest, NotReady
from sm_serve.protocol import Constraint, ConstraintKind

AT_ONCE = 2
"""Constraints that are compiled at a time."""
START_SECONDS = 60.0
COMPILE_SECONDS = 3.0
"""Processor time to compile a constraint and to try it."""
STEP_SECONDS = 1.0
"""Processor time for the tokens that may come next."""
PATIENCE = 5.0
"""So many times as long is waited for an answer, as the machine may be busy."""
REMEMBERED = 256
INVALID = "invalid_constraint"
TOO_COMPLEX = (
    "it is too complex to be followed in the time that a token may take: ask for fewer repetitions,"
    " alternatives or properties"
)
JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Python's own layout: where any whitespace may come a small model can go on with it for ever."""


class Matcher:
    """What may come next in one answer, told by a process. Not for two threads at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._failed = False

    def begin(self, grammar: str) -> str:
        """Compiles and tries a grammar; what is wrong with it, or nothing."""
        try:
            self._connection.settimeout(COMPILE_SECONDS * PATIENCE)
            self._connection.sendall(write_frame(grammar))
            return str(receive_frame(self._connection))
        except (OSError, EOFError):
            return TOO_COMPLEX
        finally:
            self._connection.settimeout(STEP_SECONDS * PATIENCE)

    def compute_bitmask(self) -> bytes:
        """A bit for each token, set where it may come next; it was begun before it is asked for."""
        try:
            mask: bytes = receive_frame(self._connection)
        except (OSError, EOFError):
            mask = b""
        self._failed |= not mask
        return mask

    def consume_token(self, token: int) -> None:
        """Goes on behind a token."""
        try:
            self._connection.sendall(write_frame(token))
        except OSError:
            self._failed = True

    def is_error(self) -> bool:
        """Whether nothing can be told any more."""
        return self._failed

    def close(self) -> None:
        """The answer has ended."""
        self._connection.close()


class Grammars:
    """Makes matchers for one tokenizer, by a process that has read it once and forks."""

    def __init__(self, tokenizer: Any, vocabulary: int, eos: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos = sorted(eos)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sm-serve-grammar")
        self._refused: OrderedDict[Constraint, str] = OrderedDict()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    async def matcher(self, constraint: Constraint) -> Matcher:
        """A fresh matcher. Raises BadRequest for a malformed constraint and a too complex one."""
        if constraint in self._refused:
            raise refused(constraint, self._refused[constraint])
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._make, constraint)
        except BadRequest as error:
            if error.code == INVALID:
                self._refused[constraint] = error.message.partition(": ")[2]
                if len(self._refused) > REMEMBERED:
                    self._refused.popitem(last=False)
            raise

    def _make(self, constraint: Constraint) -> Matcher:
        matcher = Matcher(self._fork())
        problem = matcher.begin(json.dumps([constraint.kind.value, constraint.value]))
        if problem:
            matcher.close()
            raise refused(constraint, problem)
        return matcher

    def _fork(self) -> socket.socket:
        """A connection to a new process."""
        here, there = socket.socketpair()
        with self._lock, there:
            for _ in range(2):  # it may have been killed, for want of memory say
                try:
                    if self._connection is None:
                        self._connection = self._start()
                    socket.send_fds(self._connection, [b"f"], [there.fileno()])
                except (OSError, EOFError):
                    self._stop()
                else:
                    return here
        here.close()
        raise NotReady("the process that follows constraints cannot be started: try again later")

    def _start(self) -> socket.socket:
        from transformers import PreTrainedTokenizerFast

        if not self._eos:
            raise BadRequest("this model has no end of sequence: it cannot hold to a constraint")
        if not isinstance(self._tokenizer, PreTrainedTokenizerFast):
            raise BadRequest(
                "this model's tokenizer cannot hold answers to a constraint: it is slow"
            )
        written = json.loads(self._tokenizer.backend_tokenizer.to_str())
        written |= {"padding": None, "truncation": None}
        here, there = socket.socketpair()
        with there:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "sm_serve.engines.generators.grammar_main",
                    str(there.fileno()),
                ],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a signal to the server is the front's affair
            )
        here.settimeout(START_SECONDS)
        here.sendall(write_frame((json.dumps(written), self._vocabulary, self._eos)))
        problem = receive_frame(here)
        if problem:
            here.close()
            raise BadRequest(
                f"this model's tokenizer cannot hold answers to a constraint: {problem}"
            )
        return here

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._stop()


def write_grammar(constraint: Constraint) -> str:
    """The constraint in llguidance's own form. Raises ValueError."""
    import llguidance

    if constraint.kind is ConstraintKind.JSON_SCHEMA:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            constraint.value, overrides=JSON_OPTIONS
        )
        return str(grammar)
    if constraint.kind is ConstraintKind.REGEX:
        return str(llguidance.LLMatcher.grammar_from_regex(constraint.value))
    if constraint.kind is ConstraintKind.CHOICE:
        texts = " | ".join(json.dumps(text) for text in json.loads(constraint.value))
        return str(llguidance.LLMatcher.grammar_from_lark(f"start: {texts}"))
    return str(llguidance.grammar_from("grammar", constraint.value))


def refused(constraint: Constraint, reason: str) -> BadRequest:
    """The error for a constraint that cannot be used."""
    first = reason.strip().splitlines()[0] if reason.strip() else "it is malformed"
    return BadRequest(f"{constraint.field}: {first[:300]}", code=INVALID)
