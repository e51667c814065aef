"""Tokens do not get out, and other text is left alone."""

from __future__ import annotations

import json

import pytest

from sm_launch.commands.options import echo_json
from sm_launch.redaction import redact

TOKEN = "hf_" + "aB3" * 10


def test_tokens_are_masked_wherever_they_stand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TOKEN not in redact(f"401 for {TOKEN}: no access")
    assert redact("HF_TOKEN=secret-value next") == "HF_TOKEN=[redacted] next"
    echo_json({"Environment": {"HF_TOKEN": "plain words", "OPENAI_API_KEY": "sk-1234"}})
    out = capsys.readouterr().out
    assert "sk-1234" not in out
    assert "words" not in out
    echo_json({"Environment": {"HF_TOKEN": TOKEN, "LR": "1e-5"}})
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"Environment": {"HF_TOKEN": "[redacted]", "LR": "1e-5"}}
    monkeypatch.setenv("HF_TOKEN", "unusual-form-of-token")
    assert redact("sent unusual-form-of-token") == "sent [redacted]"


def test_other_text_stays() -> None:
    text = "loss=0.25 token accuracy 0.9 hf_hub_offline max_tokens: 128"
    assert redact(text) == text
