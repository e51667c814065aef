"""One batch transform job: a server of its own, every input file through it, outputs beside."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from sm_launch.sessions.process import uris
from sm_launch.sessions.process.hosting.serving_process import (
    ServingProcess,
    UnhealthyError,
    exchange,
)
from sm_launch.sessions.process.runs import POLL_SECONDS, Termination, shorten
from sm_launch.sessions.process.store import Record

_MEGABYTE = 1024 * 1024
# CreateTransformJob: what holds where neither the request nor the container says otherwise.
_DEFAULTS = {"MaxConcurrentTransforms": 1, "BatchStrategy": "MultiRecord", "MaxPayloadInMB": 6}
_DEFAULT_TIMEOUT_SECONDS = 600
_DEFAULT_RETRIES = 3
_RETRY_PAUSE_SECONDS = 0.5


class _StopError(Exception):
    """The job is to end before its work is done."""


class _FileError(Exception):
    """An input file could not be transformed; the others can."""


class TransformRun:
    """Runs the job of a record to its end; what happens is written to its state."""

    def __init__(self, record: Record, termination: Termination) -> None:
        loaded = record.read("request")
        self._record = record
        self._termination = termination
        self._request: dict[str, Any] = loaded["request"]
        self._settings: dict[str, Any] = loaded["settings"]
        self._client = self._request.get("ModelClientConfig", {})
        variables = {**self._request.get("Environment", {}), "SAGEMAKER_BATCH": "true"}
        self._server = ServingProcess(
            record.path / "server",
            loaded["container"],
            self._settings["serve_command"],
            record.log_path,
            variables,
        )

    def run(self) -> None:
        """To the end."""
        try:
            self._server.bring_up(self._settings["startup_timeout"], self._check_for_end)
            self._record.update(TransformStartTime=time.time())
            failed = self._transform_all()
        except (UnhealthyError, OSError) as error:
            self._finish("Failed", reason=str(error))
        except _StopError:
            self._record.update(TransformJobStatus="Stopping")
            self._finish("Stopped")
        else:
            self._finish("Failed" if failed else "Completed", reason=_reason(failed))

    def _finish(self, status: str, *, reason: str | None = None) -> None:
        self._server.stop(self._settings["endpoint_grace"])
        self._server.discard()
        self._record.update(
            TransformJobStatus=status,
            FailureReason=shorten(reason) if reason else None,
            TransformEndTime=time.time(),
        )

    def _check_for_end(self) -> None:
        if self._record.stop_requested or self._termination.requested:
            raise _StopError

    def _transform_all(self) -> list[str]:
        """Transform every file; returns what went wrong with those that have no output."""
        source = uris.to_path(
            self._request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"], "TransformInput"
        )
        target = uris.to_path(self._request["TransformOutput"]["S3OutputPath"], "TransformOutput")
        limits = {**_DEFAULTS, **self._execution_parameters(), **self._request}
        failed = []
        with ThreadPoolExecutor(max(1, limits["MaxConcurrentTransforms"])) as pool:
            for path in input_files(source):
                relative = path.name if path == source else str(path.relative_to(source))
                try:
                    self._transform(path, target / f"{relative}.out", limits, pool)
                except _FileError as error:
                    failed.append(f"{relative}: {error}")
                except _StopError:
                    # The pool waits for requests in flight: let them fail now.
                    self._server.stop(self._settings["endpoint_grace"])
                    raise
        return failed

    def _execution_parameters(self) -> dict[str, Any]:
        """What the container prefers; it need not have an opinion."""
        try:
            status, body = self._exchange("GET", "/execution-parameters", b"", {})
            return json.loads(body) if status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            return {}

    def _transform(
        self, path: Path, output: Path, limits: dict[str, Any], pool: ThreadPoolExecutor
    ) -> None:
        """Send a file's payloads, at most so many at once, and write the answers in their order."""
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = output.with_name(f".{output.name}.part")
        pending: deque[Future[bytes]] = deque()
        try:
            with draft.open("wb") as stream:
                for payload in self._payloads(path, limits):
                    self._check_for_end()
                    pending.append(pool.submit(self._invoke, payload))
                    if len(pending) > limits["MaxConcurrentTransforms"]:
                        stream.write(self._answer(pending.popleft()))
                while pending:
                    stream.write(self._answer(pending.popleft()))
            draft.replace(output)
        finally:
            for future in pending:
                future.cancel()
            draft.unlink(missing_ok=True)

    def _payloads(self, path: Path, limits: dict[str, Any]) -> Iterator[bytes]:
        settings = self._request["TransformInput"]
        most = limits["MaxPayloadInMB"] * _MEGABYTE or float("inf")
        opener = gzip.open if settings.get("CompressionType") == "Gzip" else Path.open
        with opener(path, "rb") as stream:
            if settings.get("SplitType", "None") == "None":
                records: Iterable[bytes] = iter([stream.read()])
            else:
                records = stream
            multiple = limits["BatchStrategy"] == "MultiRecord"
            yield from payloads(records, most, multiple=multiple)

    def _answer(self, future: Future[bytes]) -> bytes:
        """An answer as the output file takes it."""
        while not wait([future], timeout=POLL_SECONDS).done:
            self._check_for_end()
        answer = future.result()
        line_wise = self._request["TransformOutput"].get("AssembleWith", "None") == "Line"
        return answer + b"\n" if line_wise and not answer.endswith(b"\n") else answer

    def _invoke(self, payload: bytes) -> bytes:
        headers = {
            "Content-Type": self._request["TransformInput"].get("ContentType", ""),
            "Accept": self._request["TransformOutput"].get("Accept", "*/*"),
        }
        attempts = 1 + self._client.get("InvocationsMaxRetries", _DEFAULT_RETRIES)
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(_RETRY_PAUSE_SECONDS * attempt)
            try:
                status, body = self._exchange("POST", "/invocations", payload, headers)
            except (OSError, http.client.HTTPException) as error:
                if (code := self._server.exit_code()) is not None:
                    raise self._server.failure(f"exited with code {code}") from error
                problem = f"no answer: {type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                return body
            problem = f"status {status}: {body.decode('utf-8', 'replace')}"
            if status < 500 and status != 429:
                break
        raise _FileError(f"the model refused a payload of {len(payload)} bytes with {problem}")

    def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        timeout = self._client.get("InvocationsTimeoutInSeconds", _DEFAULT_TIMEOUT_SECONDS)
        return exchange(self._server.port, method, path, body, headers, timeout=timeout)


def input_files(source: Path) -> list[Path]:
    """The files of a prefix in the order of their names, hidden ones left out."""
    if source.is_file():
        return [source]
    files = (path for path in source.rglob("*") if path.is_file())
    return sorted(
        path
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(source).parts)
    )


def payloads(records: Iterable[bytes], most: float, *, multiple: bool) -> Iterator[bytes]:
    """Records as request bodies of at most `most` bytes.

    Args:
        records: the records, each with its line end.
        most: the largest body, in bytes.
        multiple: fill a body with as many records as fit, instead of one.

    Raises:
        _FileError: a single record is too large.
    """
    batch: list[bytes] = []
    size = 0
    for record in records:
        if len(record) > most:
            raise _FileError(
                f"a record has {len(record)} bytes, more than MaxPayloadInMB allows ({most:.0f})"
            )
        if batch and (not multiple or size + len(record) > most):
            yield _body(batch, multiple=multiple)
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield _body(batch, multiple=multiple)


def _body(batch: list[bytes], *, multiple: bool) -> bytes:
    return b"".join(batch) if multiple else batch[0].rstrip(b"\r\n")


def _reason(failed: list[str]) -> str | None:
    if not failed:
        return None
    count = f"{len(failed)} input file{'s have' if len(failed) > 1 else ' has'} no output"
    return f"ClientError: {count}. {'; '.join(failed)}"
