"""When the engine breaks /ping says so within two seconds, and nobody is left waiting."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving_adapters import make_adapter
from serving_process import Hasty, base_with

from sm_serve.config import Settings
from sm_serve.http.server import build_app
from sm_serve.service import Service

pytestmark = pytest.mark.slow


async def started(model_dir, tmp_path, **settings):
    """A service with a real engine and a client for its application."""
    (tmp_path / "model").symlink_to(model_dir)
    service = Service(Settings(base_dir=tmp_path, **settings))
    service.start(on_failure=lambda: None)
    deadline = time.monotonic() + 120
    while service.health.problem() is not None:
        assert service.failure is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    transport = httpx.ASGITransport(build_app(service))
    return service, httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30)


async def turns_unhealthy(client, seconds=2.0):
    began = time.monotonic()
    while (await client.get("/ping")).status_code != 503:
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)
    return (await client.get("/ping")).json()["reason"]


def explode(*args, **kwargs):
    raise RuntimeError("no kernel for this at /opt/secret")


def lose_the_device(*args, **kwargs):
    raise RuntimeError("CUDA error: device-side assert triggered at /opt/secret")


async def turns_healthy(client, seconds=60):
    async with asyncio.timeout(seconds):
        while (await client.get("/ping")).status_code != 200:
            await asyncio.sleep(0.1)


def test_a_dead_generation_loop_is_started_again(language_model_dir, tmp_path):
    async def run():
        service, client = await started(language_model_dir, tmp_path)
        engine = service.handler.engine
        body = {"inputs": "hello", "parameters": {"max_new_tokens": 400, "ignore_eos_token": True}}
        short = {"inputs": "hello movie", "parameters": {"max_new_tokens": 8}}
        before = await client.post("/invocations", json=short)
        waiting = asyncio.create_task(client.post("/invocations", json=body))
        await asyncio.sleep(0.2)
        forward, engine.model.forward = engine.model.forward, explode
        assert "loop died" in await turns_unhealthy(client)
        answer = await asyncio.wait_for(waiting, 2)
        assert answer.status_code == 503
        assert "secret" not in answer.text
        assert (await client.post("/invocations", json=body)).status_code == 503
        # A new loop that answers nothing is no better: /ping goes on to say so.
        for _ in range(20):
            await asyncio.sleep(0.1)
            assert (await client.get("/ping")).status_code == 503
        engine.model.forward = forward  # it is started again with what it had
        await turns_healthy(client)
        again = await client.post("/invocations", json=short)
        assert again.json() == before.json()
        await fail_searches_alone(client, engine)
        service.close()

    asyncio.run(run())


async def fail_searches_alone(client, engine):
    """They make nothing else unhealthy, unless by losing the GPU that all others need."""
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 4, "num_beams": 2}}
    engine.model.generate = explode
    for _ in range(4):
        assert (await client.post("/invocations", json=body)).status_code == 500
        assert (await client.get("/ping")).status_code == 200
    engine.model.generate = lose_the_device
    assert (await client.post("/invocations", json=body)).status_code == 500
    assert "the device has failed" in (await client.get("/ping")).json()["reason"]


class Wedged(Hasty):
    """A server whose generation loop hangs for ever once a file `wedge` is there."""

    trouble = """
import time
from pathlib import Path
from sm_serve.engines.generators.continuous import ContinuousGenerator

route = ContinuousGenerator._route

def wedge(self, manager):
    while Path("wedged").exists() or Path("wedge").exists() and Path("wedge").rename("wedged"):
        time.sleep(0.1)
    route(self, manager)

ContinuousGenerator._route = wedge
"""


def test_a_server_whose_loop_is_stuck_starts_anew(language_model_dir, tmp_path):
    base = base_with(language_model_dir, tmp_path / "base")
    make_adapter(base / "model", base / "later", "CAUSAL_LM", 1)
    short = {"inputs": "hello movie", "parameters": {"max_new_tokens": 8}}
    long = {"inputs": "a", "parameters": {"max_new_tokens": 400, "ignore_eos_token": True}}
    with Wedged(base, SM_SERVE_STALL_TIMEOUT="0.5") as server, ThreadPoolExecutor(2) as pool:
        before = server.invoke(short).json()
        assert server.client.post("/adapters", json={"name": "x", "src": "later"}).is_success
        streamed = pool.submit(server.invoke, {**long, "stream": True})
        time.sleep(0.1)
        (base / "wedge").touch()
        waiting = pool.submit(server.invoke, short)
        deadline = time.monotonic() + 3
        while server.ping() != 503:
            assert time.monotonic() < deadline
        assert "no step" in server.client.get("/ping").json()["reason"]
        assert waiting.result(5).status_code == 503
        *_, last, _ = streamed.result(5).text.split("\n\n")
        assert json.loads(last.removeprefix("data:"))["error"]["code"] == "not_ready"
        (base / "wedged").unlink()
        server.wait_anew()
        assert server.log.read_text().count("starting anew") == 1
        assert server.invoke(short).json() == before
        assert server.client.get("/adapters").json() == {"adapters": ["x"]}
        assert server.stop() == 0


SCRIPT = """
class AcceleratorError(RuntimeError):
    pass

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    if body == b"lose":
        raise AcceleratorError("CUDA error: an illegal memory access was encountered")
    return body.decode().upper(), accept
"""


def test_a_server_whose_script_has_lost_the_gpu_starts_anew(tmp_path):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(SCRIPT)
    with Hasty(tmp_path) as server:
        assert server.invoke("a", content_type="text/plain").text == "A"
        assert server.invoke("lose", content_type="text/plain").status_code == 500
        assert "device has failed" in server.client.get("/ping").json()["reason"]
        assert server.invoke("a", content_type="text/plain").status_code == 503
        server.wait_anew()
        assert server.invoke("a", content_type="text/plain").text == "A"


def test_a_classifier_that_fails_every_batch(classifier_dir, tmp_path):
    async def run():
        service, client = await started(classifier_dir, tmp_path, engine_process=False)
        service.handler.engine.model.forward = explode
        for _ in range(3):
            answer = await client.post("/invocations", json={"inputs": "hello"})
            assert answer.status_code == 500
            assert "secret" not in answer.text
        assert "3 batches failed" in await turns_unhealthy(client)
        service.close()

    asyncio.run(run())


def test_plain_generation_serves_what_has_no_paged_attention(language_model_dir, tmp_path):
    async def run():
        service, client = await started(language_model_dir, tmp_path, engine="transformers")
        body = {"inputs": "hello", "parameters": {"max_new_tokens": 20}}
        first, second = await asyncio.gather(
            client.post("/invocations", json=body), client.post("/invocations", json=body)
        )
        assert first.json() == second.json()
        seeded = {**body, "parameters": {"max_new_tokens": 20, "temperature": 1, "seed": 4}}
        answers = [(await client.post("/invocations", json=seeded)).json() for _ in range(2)]
        assert answers[0] == answers[1] != first.json()
        model = service.handler.engine.model
        generate, model.generate = model.generate, explode
        for _ in range(3):
            assert (await client.get("/ping")).status_code == 200
            answer = await client.post("/invocations", json=body)
            assert answer.status_code == 500
            assert "secret" not in answer.text
        assert "failed in a row" in await turns_unhealthy(client)
        assert (await client.post("/invocations", json=body)).status_code == 503
        model.generate = generate
        await turns_healthy(client)
        assert (await client.post("/invocations", json=body)).json() == first.json()
        service.close()
        assert "not running" in await turns_unhealthy(client)

    asyncio.run(run())
