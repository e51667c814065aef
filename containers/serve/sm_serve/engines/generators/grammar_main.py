"""The process that knows a tokenizer, and forks another for each constraint that is followed.

    python -m sm_serve.engines.generators.grammar_main DESCRIPTOR

The first message is the tokenizer; then come the ends of connections, one for each constraint. Such
a connection gets the constraint, tells what is wrong with it (nothing, mostly), and then for each
token what may come next. A fork that takes too much processor time for that is ended by the kernel.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from sm_serve.engines.generators.grammar import COMPILE_SECONDS, STEP_SECONDS, write_grammar
from sm_serve.engines.process.frames import receive_frame, write_frame
from sm_serve.protocol import Constraint, ConstraintKind

NICENESS = 5
TRIED_TOKENS = 24
"""How far a constraint is tried before an answer begins with it."""
MEMORY = 1 << 30
"""What one may take beside the tokenizer."""


def serve(descriptor: int) -> None:
    """Forks until the front is gone."""
    import llguidance

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    os.nice(NICENESS)
    with socket.socket(fileno=descriptor) as front:
        tokenizer, vocabulary, eos = receive_frame(front)
        try:
            shared = llguidance.LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=eos)
        except ValueError as error:
            front.sendall(write_frame(str(error)[:300] or "it is refused"))
            return
        front.sendall(write_frame(""))
        while True:
            word, descriptors, _, _ = socket.recv_fds(front, 1, 1)
            if not word:
                return
            if os.fork() == 0:
                front.close()
                _follow(socket.socket(fileno=descriptors[0]), shared)
            os.close(descriptors[0])


def _follow(connection: socket.socket, shared: Any) -> None:
    """Follows one answer to its end, and ends the process."""
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _within(COMPILE_SECONDS)
        matcher, problem = _compile(receive_frame(connection), shared)
        connection.sendall(write_frame(problem))
        while matcher is not None:
            _within(STEP_SECONDS)
            mask = matcher.compute_bitmask()
            connection.sendall(write_frame(b"" if matcher.is_error() else mask))
            matcher.consume_token(receive_frame(connection))
    except (EOFError, OSError):
        pass  # the answer has ended
    finally:
        os._exit(0)


def _within(seconds: float) -> None:
    """The kernel ends this process after so much processor time, whatever it is at."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _compile(message: str, shared: Any) -> tuple[Any, str]:
    """A matcher, or what is wrong with its constraint."""
    import llguidance

    kind, value = json.loads(message)
    try:
        grammar = write_grammar(Constraint(ConstraintKind(kind), value))
        matcher = llguidance.LLMatcher(shared, grammar, log_level=0)
    except (ValueError, RecursionError) as error:
        return None, str(error).strip() or "it is malformed"
    problem = matcher.get_error() if matcher.is_error() else _try(matcher.deep_copy())
    return (None, problem) if problem else (matcher, "")


def _try(matcher: Any) -> str:
    """Walks into a grammar, by the middle one of the tokens that may come; what goes wrong."""
    for _ in range(TRIED_TOKENS):
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        if matcher.is_error():
            return str(matcher.get_error()) or "it cannot be followed"
        if matcher.is_stopped() or not mask:
            return "" if mask or matcher.is_stopped() else "no text at all keeps to it"
        bits = bin(mask)[:1:-1]
        place = bits.find("1", len(bits) // 2)
        matcher.consume_token(place if place >= 0 else bits.rfind("1"))
    return ""


if __name__ == "__main__":
    serve(int(sys.argv[1]))
