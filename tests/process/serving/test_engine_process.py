"""An encoder's engine in a process of its own: what the server does when that process does not."""

import concurrent.futures
import os
import signal
import time

import httpx
import psutil
import pytest
from serving_adapters import make_adapter
from serving_process import Server, base_with

pytestmark = pytest.mark.slow


def engine_of(server):
    (child,) = psutil.Process(server.process.pid).children()
    assert "sm_serve.engines.process.worker" in child.cmdline()
    return child


def wait_for(condition, seconds=2.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def base(classifier_dir, tmp_path):
    return base_with(classifier_dir, tmp_path / "base")


def test_a_killed_engine_turns_ping_unhealthy_leaves_nobody_waiting_and_comes_again(base):
    for number, place in enumerate(
        ("model/adapters/brought", "model/adapters/gone", "other/later")
    ):
        make_adapter(base / "model", base / place, "SEQ_CLS", number, 3)
    copies = {"SM_SERVE_REPLICAS": "2"}  # over one copy of the weights
    with Server(base, **copies) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        engine = engine_of(server)
        before = server.invoke({"inputs": "good film"}).json()
        listed = server.invoke({"inputs": ["good film"] * 9}).json()
        assert [each["score"] for each in listed] == pytest.approx([before[0]["score"]] * 9)
        assert "sm_serve_replicas 2" in server.client.get("/metrics").text
        body = {"name": "later", "src": "other/later"}
        assert server.client.post("/adapters", json=body).status_code == 200
        later = server.invoke("good", x_amzn_sagemaker_adapter_identifier="later").json()
        assert server.client.delete("/adapters/gone").status_code == 200
        engine.suspend()
        waiting = [pool.submit(server.invoke, {"inputs": "good film"}) for _ in range(8)]
        time.sleep(0.3)
        engine.kill()
        wait_for(lambda: server.ping() == 503)
        assert "ended with code -9" in server.client.get("/ping").json()["reason"]
        assert {each.result(2).status_code for each in waiting} == {503}
        assert server.invoke({"inputs": "good film"}).status_code == 503
        wait_for(lambda: server.ping() == 200, 120)
        assert engine_of(server).pid != engine.pid
        assert server.invoke({"inputs": "good film"}).json() == before
        names = server.client.get("/adapters").json()["adapters"]
        assert names == ["brought", "later"]
        assert server.invoke("good", x_amzn_sagemaker_adapter_identifier="later").json() == later
        assert server.stop() == 0


def test_a_stopped_engine_is_noticed_and_goes_on_where_it_was(base):
    with Server(base, SM_SERVE_STALL_TIMEOUT="0.6") as server:
        whole = server.invoke({"inputs": ["good film", "bad film"]}).json()
        engine = engine_of(server)
        engine.suspend()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/invocations", json={"inputs": "gone"}, timeout=0.2)
        wait_for(lambda: server.ping() == 503)
        assert "told nothing for over 0.6 s" in server.client.get("/ping").json()["reason"]
        engine.resume()
        wait_for(lambda: server.ping() == 200)
        assert server.invoke({"inputs": ["good film", "bad film"]}).json() == whole


def test_the_engine_ends_with_its_server_however_that_ends(base):
    with Server(base) as server:
        engine = engine_of(server)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, 5)
    with Server(base, wait=False) as server:
        wait_for(lambda: psutil.Process(server.process.pid).children(), 30)
        engine = engine_of(server)
        assert server.stop() == 0  # while it loads
        wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, 10)


def test_one_process_does_where_it_is_wanted(base):
    with Server(base, SM_SERVE_ENGINE_PROCESS="false") as server:
        assert not psutil.Process(server.process.pid).children()
        assert server.invoke({"inputs": "good film"}).status_code == 200
