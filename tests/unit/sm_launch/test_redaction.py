"""Secrets do not get out, and other text is left alone."""

from __future__ import annotations

import json
import string
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sm_launch.redaction
import sm_train.redaction
from sm_launch.commands.options import echo_json
from sm_launch.redaction import MASK, redact, redact_value
from sm_launch.report.html import el, page
from sm_launch.sessions.process.runs import shorten
from sm_train.errors import UserError

TOKEN = "hf_" + "aB3" * 10
ALNUM = string.ascii_letters + string.digits


def random_text(alphabet: str, low: int, high: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=low, max_size=high)


def some(prefix: str, low: int = 20, high: int = 60, alphabet: str = ALNUM):
    return random_text(alphabet, low, high).map(lambda rest: prefix + "a1" + rest)


FORMS = st.one_of(
    *[some(prefix) for prefix in ("hf_", "api_org_", "sk-", "sk-proj-", "sk-ant-api03-", "ghp_",
                                  "gho_", "github_pat_", "glpat-", "IQoJb3JpZ2lu", "FwoGZXIvYXdz",
                                  "xoxb-", "nvapi-", "gsk_", "r8_", "pypi-")],
    *[random_text(string.ascii_uppercase + string.digits, 16, 16).map(key.__add__)
      for key in ("AKIA", "ASIA")],
)  # fmt: skip
NAMES = st.sampled_from(
    ["HF_TOKEN", "hf_token", "hub_token", "OPENAI_API_KEY", "openai_api_key", "apiKey", "x-api-key",
     "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "SecretAccessKey", "aws_session_token",
     "SessionToken", "AWS_SESSION_TOKEN", "aws_access_key_id", "password", "DB_PASSWORD",
     "db.passwd", "client_secret", "MY_SECRET", "secret_key", "WANDB_API_KEY", "access_token",
     "auth-token", "GITHUB_TOKEN", "private_key", "X-Amz-Signature", "X-Amz-Security-Token"]
)  # fmt: skip
# What a value may consist of where its name alone gives it away.
VALUES = random_text(ALNUM + "+/=_.-~!$%^*", 6, 40).map("Q7".__add__)
AROUND = st.text(string.ascii_lowercase + " .,:()", max_size=20)
ASSIGNMENTS = st.sampled_from(
    ["{n}={v}", "{n}: {v}", '{{"{n}": "{v}"}}', "{{'{n}': '{v}'}}", '{n}="{v}"',
     '{{\\"{n}\\": \\"{v}\\"}}', "https://host/path?{n}={v}&x=1", "export {n}={v}", "{n} = '{v}'"]
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=AROUND, token=FORMS, after=AROUND)
@example(before="", token="sk-proj-" + "aB3-_" * 6, after="")
def test_a_token_of_a_known_form_is_masked_anywhere(before: str, token: str, after: str) -> None:
    assert token not in redact(f"{before} {token} {after}")
    assert token not in redact(json.dumps({"a": [f"{before} {token}"]}))
    assert token not in redact(f"https://{token}@host/path {after}")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=NAMES, value=VALUES, form=ASSIGNMENTS, before=AROUND, after=AROUND)
def test_a_value_of_a_secret_name_is_masked(
    name: str, value: str, form: str, before: str, after: str
) -> None:
    said = form.format(n=name, v=value)
    shown = redact(f"{before} {said} {after}")
    assert value not in shown
    assert name in shown
    assert redact(shown) == shown


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(user=random_text(ALNUM, 0, 8), word=VALUES, scheme=st.sampled_from(["https", "postgres"]))
def test_passwords_of_urls_and_headers_are_masked(user: str, word: str, scheme: str) -> None:
    password = word.replace("/", "@")
    shown = redact(f"cannot reach {scheme}://{user}:{password}@host.example:80/simple/ now")
    assert f":{password}@" not in shown
    assert shown.endswith("@host.example:80/simple/ now")
    token = f"abc1{word}xyz".replace("!", "").replace("$", "").replace("%", "")
    token = token.replace("^", "").replace("*", "")
    for header in (f"Authorization: Bearer {token}", f"'authorization': 'Basic {token}'",
                   f"sent bearer {token} to it"):  # fmt: skip
        assert token not in redact(header)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | FORMS | VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=JSON, name=NAMES, value=VALUES, token=FORMS)
def test_json_keeps_its_shape_and_loses_its_secrets(
    document: object, name: str, value: str, token: str
) -> None:
    whole = {"a": document, "b": [{name: value, "c": f"x {token}"}]}
    shown = redact_value(whole)
    text = json.dumps(shown)
    assert shape(shown) == shape(whole)
    assert token not in text
    assert shown["b"][0][name] == MASK
    assert redact_value(shown) == shown


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    return [shape(member) for member in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("option", ["--token", "--password", "--hub-token", "--api-key"])
def test_options_of_a_command_line(option: str) -> None:
    assert redact(f"run {option} abc-def --next 5") == f"run {option} {MASK} --next 5"
    assert redact(f"run {option}=abc-def --next 5") == f"run {option}={MASK} --next 5"


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=NAMES, value=random_text(ALNUM, 6, 40).map("Q7".__add__), form=ASSIGNMENTS)
def test_pages_and_failures_are_masked(name: str, value: str, form: str) -> None:
    said = form.format(n=name, v=value)
    assert value not in page("a report", el("p", said), el("li", f"it failed: {said}"))
    assert value not in shorten(f"AlgorithmError: {said}")
    assert value not in str(UserError("is unknown", field=name, value=value))


LONG_PARTS = ["a-b.", "x", "://", "M1.5-2", "password=", "token=", "eyJ-", "sk-", "--token-",
              "bearer ", '\\"secret\\": ', "hf_"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", LONG_PARTS)
def test_no_text_takes_quadratic_time(part: str) -> None:
    started = time.process_time()
    redact(part * (100_000 // len(part)))
    assert time.process_time() - started < 4  # a quadratic pattern needs half a minute and more


def test_a_private_key_is_masked() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
    assert "MIIEow" not in redact(f"key: {key} end")
    assert "MIIEow" not in redact(json.dumps({"k": key}))


@pytest.mark.parametrize("name", ["HF_TOKEN", "my_service_password", "AWS_SESSION_TOKEN"])
def test_secrets_of_the_environment_are_found_by_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "unusual-form-of-token")
    assert redact("sent unusual-form-of-token") == f"sent {MASK}"


def test_what_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"Environment": {"HF_TOKEN": "plain words", "OPENAI_API_KEY": "sk-1234"}})
    out = capsys.readouterr().out
    assert "sk-1234" not in out
    assert "words" not in out
    echo_json({"Environment": {"HF_TOKEN": TOKEN, "LR": "1e-5", "KEPT": "env:HF_TOKEN",
                               "MY_SECRET": "secret:prod/key#part"}})  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {
        "Environment": {"HF_TOKEN": MASK, "LR": "1e-5", "KEPT": "env:HF_TOKEN",
                        "MY_SECRET": "secret:prod/key#part"}
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "loss=0.25 token accuracy 0.9 hf_hub_offline max_tokens: 128",
        '{"eos_token": "<|im_end|>", "pad_token": "[PAD]", "token": "the", "logprob": -0.1}',
        "num_input_tokens_seen=4096, tokens_per_second: 815.2, eos_token_id: 2",
        "sk-learn and sk-image are libraries; use_auth_token is deprecated",
        "training_job sentiment-20260101-101010-000 in s3://bucket/prefix/key/",
        "kms_key: arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "git@github.com:org/repo.git and https://host:8080/path and user@example.com",
        "basic training of bearer tokens; a password is needed; the secret of success",
        "HF_TOKEN: env:HF_TOKEN, other: secret:prod/key#token",
        '{"TrainingJobArn": "arn:aws:sagemaker:eu-west-1:111122223333:training-job/secret-santa"}',
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        '{"NextToken": null, "api_key": null}',
        "special_tokens_map.json tokenizer_config.json",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


def test_the_containers_copy_is_the_same() -> None:
    ours, theirs = Path(sm_launch.redaction.__file__), Path(sm_train.redaction.__file__)
    assert ours.read_text() == theirs.read_text()
