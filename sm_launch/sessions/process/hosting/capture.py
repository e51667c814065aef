"""Data capture: requests and answers as JSON lines, in the files and form that SageMaker writes.

`<DestinationS3Uri>/<endpoint>/<variant>/<yyyy>/<mm>/<dd>/<hh>/<minute>-<second>-…-<id>.jsonl`. Only
what goes through `invoke_endpoint` is seen: not streams, nor requests to the server's own address.
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sm_launch.sessions.process import uris

_CSV_TYPES = ("text/csv",)
_JSON_TYPES = ("application/json",)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    Attributes:
        request: what `invoke_endpoint` was called with.
        body: the request's body.
        answer: the response's body.
        content_type: the response's content type.
    """

    request: dict[str, Any]
    body: bytes
    answer: bytes
    content_type: str


class Capture:
    """Writes one endpoint's sampled exchanges.

    Args:
        config: DataCaptureConfig.
        endpoint: the endpoint's name.
        variant: the production variant's name.
    """

    def __init__(self, config: dict[str, Any], endpoint: str, variant: str) -> None:
        self._config = config
        root = uris.to_path(config["DestinationS3Uri"], "DataCaptureConfig.DestinationS3Uri")
        self._root = root / endpoint / variant
        self._modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
        self._id = uuid.uuid4()
        self._hour = ""
        self._path = Path()

    def record(self, exchange: Exchange) -> None:
        """Append the exchange, if the sample takes it."""
        if random.random() * 100 >= self._config["InitialSamplingPercentage"]:  # noqa: S311
            return
        now = datetime.now(UTC)
        line = json.dumps(self._event(exchange, now), ensure_ascii=False) + "\n"
        with self._file(now).open("a", encoding="utf-8") as stream:
            stream.write(line)

    def _event(self, exchange: Exchange, now: datetime) -> dict[str, Any]:
        request = exchange.request
        data: dict[str, Any] = {}
        if self._modes & {"Input", "InputAndOutput"}:
            content_type = request.get("ContentType", "application/octet-stream")
            data["endpointInput"] = self._side("INPUT", content_type, exchange.body)
        if self._modes & {"Output", "InputAndOutput"}:
            data["endpointOutput"] = self._side("OUTPUT", exchange.content_type, exchange.answer)
        metadata: dict[str, Any] = {
            "eventId": str(uuid.uuid4()),
            "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if "InferenceId" in request:
            metadata["inferenceId"] = request["InferenceId"]
        if "CustomAttributes" in request:
            metadata["customAttributes"] = [request["CustomAttributes"]]
        return {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}

    def _side(self, mode: str, content_type: str, body: bytes) -> dict[str, str]:
        encoding = self._encoding(content_type)
        try:
            data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
        except UnicodeDecodeError:
            encoding, data = "BASE64", base64.b64encode(body).decode()
        return {
            "observedContentType": content_type,
            "mode": mode,
            "data": data,
            "encoding": encoding,
        }

    def _encoding(self, content_type: str) -> str:
        """How a body is written: as text only where its content type is listed as such."""
        listed = self._config.get("CaptureContentTypeHeader", {})
        plain = content_type.split(";", maxsplit=1)[0].strip().lower()
        if plain in listed.get("CsvContentTypes", _CSV_TYPES):
            return "CSV"
        return "JSON" if plain in listed.get("JsonContentTypes", _JSON_TYPES) else "BASE64"

    def _file(self, now: datetime) -> Path:
        """One file an hour; its name is this writer's own, so that writers do not meet."""
        hour = now.strftime("%Y/%m/%d/%H")
        if hour != self._hour:
            directory = self._root / hour
            directory.mkdir(parents=True, exist_ok=True)
            self._hour = hour
            self._path = directory / f"{now.strftime('%M-%S-%f')}-{self._id}.jsonl"
        return self._path


def summary(config: dict[str, Any]) -> dict[str, Any]:
    """DataCaptureConfigSummary, as DescribeEndpoint shows it."""
    return {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
