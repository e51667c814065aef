"""Our functions, for those of the inference toolkit's that a script leaves out.

`model_fn` loads the batching engine; the others speak the Hugging Face format to it, and to a
script's own model what the stock decoders and encoders give.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from sagemaker_inference import content_types, decoder, encoder

from sm_serve import contract
from sm_serve.artefact.artefact import inspect
from sm_serve.config import Settings
from sm_serve.engines.registry import load_engine
from sm_serve.errors import BadRequest, NotAcceptable
from sm_serve.handlers.engine import EngineHandler
from sm_serve.protocol import ADAPTER
from sm_serve.schemas import documents, media
from sm_serve.schemas import invocation as wire


class Defaults:
    """Our handler functions, for those that the script leaves out."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self.model: EngineModel | None = None
        self.user_predicts = False

    def default_model_fn(self, model_dir: str, context: Any = None) -> EngineModel:
        """Loads the engine of the model directory."""
        artefact = inspect(Path(model_dir), self._settings)
        engine = load_engine(artefact, self._settings)
        self.model = EngineModel(EngineHandler(engine, self._settings), self._loop)
        return self.model

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        """Our formats for our engine; for a user's predict_fn what the stock decoders give.

        A JSON object stays a dict, as under the Hugging Face toolkit; other JSON, CSV and npy
        become arrays, as under the base toolkit. Pickled arrays are refused.
        """
        if self.model is not None and not self.user_predicts:
            body = input_data.encode() if isinstance(input_data, str) else bytes(input_data)
            return wire.parse_invocation(body, media.parse_media_type(content_type))
        if content_type == content_types.JSON:
            value = documents.parse_json(input_data)
            return value if isinstance(value, dict) else np.array(value)
        if content_type == content_types.NPY:
            return load_npy(bytes(input_data))
        if content_type == media.TEXT:
            return bytes(input_data).decode()
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        """Calls the model as the Hugging Face toolkit does: inputs, then parameters by name.

        Our engine answers by the adapter that the request's header names.
        """
        chosen = {}
        if isinstance(model, EngineModel):
            adapter = context.get_request_header(0, contract.HEADER_ADAPTER) if context else None
            if isinstance(data, wire.Invocation):
                return model.answer(data, adapter or None)
            chosen = {ADAPTER: adapter} if adapter else {}
        if isinstance(data, dict) and "inputs" in data:
            return model(data["inputs"], **{**(data.get("parameters") or {}), **chosen})
        return model(data, **chosen)

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """Our formats for our engine's results; else the toolkit's encoders, without pickles."""
        if isinstance(prediction, Results):
            kind = wire.choose_output(accept, prediction.invocation, None)
            return wire.write_results(prediction.invocation.calls, prediction.results, kind), kind
        kind = media.choose_accept(accept, sorted(encoder.SUPPORTED_CONTENT_TYPES), media.JSON)
        if kind == content_types.NPY and np.asarray(prediction).dtype.hasobject:
            raise NotAcceptable("this result is no plain array: accept application/json")
        return encoder.encode(prediction, kind), kind


def load_npy(body: bytes) -> Any:
    """An array without pickled objects, which could run code when read."""
    try:
        return np.load(io.BytesIO(body), allow_pickle=False)
    except ValueError as error:
        raise BadRequest(f"the body is not a plain npy array: {error}") from error


class Results:
    """Our engine's results with the invocation that they answer."""

    def __init__(self, invocation: wire.Invocation, results: list[list[Any]]) -> None:
        self.invocation = invocation
        self.results = results


class EngineModel:
    """Our engine as a callable model, for the synchronous world of handler functions."""

    def __init__(self, handler: EngineHandler, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self._loop = loop

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """Results for one input or a list, as a Hugging Face pipeline gives them."""
        if isinstance(inputs, np.ndarray):
            inputs = inputs.tolist()
        call = wire.parse_call({"inputs": inputs, "parameters": parameters})
        return wire.lone(call, self._wait(self.handler.results(call)))

    def answer(self, invocation: wire.Invocation, adapter: str | None) -> Results:
        """Results for a whole body."""
        results = [self._wait(self.handler.results(call, adapter)) for call in invocation.calls]
        return Results(invocation, results)

    def _wait(self, coroutine: Any) -> list[Any]:
        future: Future[list[Any]] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()
