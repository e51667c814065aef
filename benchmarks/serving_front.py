"""Servers without a model, so that what is left is the front: `benchmarks/serving.py --task front`.

    python benchmarks/serving_front.py starlette|noop

`starlette` is the least that one can do: uvicorn, one route, JSON in and out. `noop` is this
container's whole server with an engine that answers at once, in a process of its own as encoders
have.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sm_serve.artefact.artefact import Artefact
from sm_serve.config import Settings
from sm_serve.protocol import Task

ANSWER = {"label": "a", "score": 1.0}


class NoopEngine:
    """A classifier that knows its answer."""

    task = Task.TEXT_CLASSIFICATION

    def adapters(self) -> list[str]:
        """None."""
        return []

    @classmethod
    def load_replicas(cls, artefact: Artefact, settings: Settings) -> list[NoopEngine]:
        """Nothing to load."""
        return [cls()]

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """The same answer for each input."""
        return [ANSWER] * len(inputs)

    def health(self) -> str | None:
        """Always well."""
        return None

    def stats(self) -> dict[str, float]:
        """Nothing to tell."""
        return {}

    def close(self) -> None:
        """Nothing to end."""


def run_starlette() -> None:
    """uvicorn and starlette alone, with the settings that our server has."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def invocations(request: Request) -> JSONResponse:
        json.loads(await request.body())
        return JSONResponse([ANSWER])

    app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"])])
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    uvicorn.run(app, port=port, log_config=None, access_log=False, lifespan="off")


def run_noop() -> int:
    """This container's server in front of a NoopEngine."""
    from sm_serve import main
    from sm_serve.engines.process.client import ProcessPredictor

    ProcessPredictor.command = (sys.executable, __file__, "engine")
    return main.main()


def run_engine(descriptor: int) -> None:
    """The NoopEngine's process."""
    from sm_serve.engines import registry
    from sm_serve.engines.process import worker

    registry.ENGINES[Task.TEXT_CLASSIFICATION.value] = "serving_front:NoopEngine"
    asyncio.run(worker.serve(descriptor))


if __name__ == "__main__":
    if sys.argv[1] == "starlette":
        run_starlette()
    elif sys.argv[1] == "engine":
        run_engine(int(sys.argv[2]))
    else:
        sys.exit(run_noop())
