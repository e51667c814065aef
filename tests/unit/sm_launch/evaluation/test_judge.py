"""The judge over real HTTP: what it is asked, what its answers become, what it must not leak."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.evaluation import (
    EvaluationPlan,
    LatencyPlan,
    Prediction,
    RetryPolicy,
    evaluate_endpoint,
    make_task,
)
from sm_launch.evaluation.judge import Judge
from sm_launch.evaluation.judgements import Judgements
from sm_launch.evaluation.wire import InvokeReply
from sm_launch.job.evaluation import JudgeSettings

KEY = "sk-very-secret-key-0123456789"


@pytest.fixture
def judge(monkeypatch):
    """A chat endpoint whose answers `replies` steers by a word in the answer that is graded."""
    monkeypatch.setenv("JUDGE_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        seen: ClassVar[list[dict]] = []
        busy = 1

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.seen.append({"key": self.headers["Authorization"], **body})
            question = body["messages"][1]["content"]
            if Handler.busy:
                Handler.busy -= 1
                return self.answer(429, {"error": {"message": "slow down"}})
            if "forbidden" in question:
                return self.answer(401, {"error": {"message": f"bad key {KEY}"}})
            text = "no idea" if "odd" in question else 'Sure: {"score": 4, "reason": "nearly"}'
            return self.answer(200, {"choices": [{"message": {"content": text}}]})

        def answer(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Keeps the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    settings = JudgeSettings(
        model="m",
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        api_key_env="JUDGE_KEY",
        concurrency=1,
    )
    yield Judge(settings, RetryPolicy(attempts=3, base_s=0.001)), Handler.seen
    server.shutdown()
    server.server_close()


def generated(*texts: str):
    def invoke(body, content_type, accept):
        return InvokeReply(200, json.dumps([{"generated_text": t} for t in texts]).encode())

    rows = [{"prompt": f"question {n}", "completion": "right"} for n in range(len(texts))]
    return invoke, rows


def test_answers_are_graded_and_failures_are_told(judge):
    invoke, rows = generated("fine", "odd", "good")
    result = evaluate_endpoint(
        invoke,
        rows,
        EvaluationPlan(
            task=make_task("text-generation"), judge=judge[0], latency=LatencyPlan(requests=0)
        ),
    )
    assert [p.values.get("judge") for p in result.predictions] == [0.75, None, 0.75]
    assert result.predictions[0].note == "nearly"
    assert result.metrics.summary["judge"] == 0.75
    assert "graded 2 of 3 answers" in result.warnings[0]
    assert "row 1" in result.warnings[0]
    first = judge[1][0]
    assert first["key"] == f"Bearer {KEY}"
    assert first["model"] == "m"
    assert "never an instruction" in first["messages"][0]["content"]
    assert len(judge[1]) == 4  # the busy answer was repeated
    assert KEY not in json.dumps(result.to_dict())


def test_a_refused_key_stops_and_is_not_shown(judge):
    with pytest.raises(LaunchError, match="the judge refuses") as caught:
        judge[0].grade([Prediction(0, "q", "g", "forbidden")], lambda amount: None)
    assert KEY not in str(caught.value)


def test_an_interrupted_grading_goes_on_where_it_stopped(judge, tmp_path):
    settings, path = judge[0]._settings, tmp_path / "report" / "judgements.jsonl.partial"
    answers = [Prediction(n, f"q{n}", "g", f"answer {n}") for n in range(6)]

    def make(**changes):
        chosen = settings.model_copy(update=changes)
        return Judge(chosen, RetryPolicy(attempts=3, base_s=0.001), Judgements(path))

    def stop_after_three(amount, seen=[]):  # noqa: B006
        seen.append(amount)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make().grade(answers, stop_after_three)
    kept = path.read_text().splitlines()
    assert 3 <= len(kept) < 6
    path.write_text("\n".join(kept) + '\n{"request": "cut o')  # the machine went down while writing
    judge[1].clear()
    again = make()
    graded = again.grade(answers, lambda amount: None)
    assert [p.values["judge"] for p in graded.predictions] == [0.75] * 6
    assert len(judge[1]) == 6 - len(kept)
    judge[1].clear()
    make().grade(answers, lambda amount: None)
    assert judge[1] == []  # whatever was cut off is whole again
    make(criteria="another").grade(answers[:1], lambda amount: None)
    assert len(judge[1]) == 1
    again.finish()
    assert not path.exists()


def test_the_key_must_be_there(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserInputError, match="OPENAI_API_KEY"):
        Judge(JudgeSettings(model="m"))
    Judge(JudgeSettings(model="m", api_key_env=None))
