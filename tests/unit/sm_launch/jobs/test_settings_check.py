"""Settings that the training image refuses by themselves are refused on the laptop, alike."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.hyperparameters import trainer_folder
from sm_launch.jobs import settings_check
from sm_launch.jobs.settings_check import check_settings
from sm_train.config import parse_config
from sm_train.errors import UserError

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/sm-train:1.0-gpu"


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("text-classification", {"threshold": 0.3}, r"hyperparameters\.threshold: one number"),
        ("text-classification", {"num_labels": 1, "labels": ["a"]}, "one label is regression"),
        ("text-classification", {"streaming": True}, "labels: is wanted beside streaming"),
        ("token-classification", {"streaming": True}, "labels: is wanted beside streaming"),
        ("text-classification", {"class_weights": "even"}, "neither balanced nor a mapping"),
        ("sft", {"load_in_4bit": True}, "load_in_4bit: contradicts another setting"),
        ("sft", {"export": "adapter"}, "there is no adapter without LoRA"),
        ("sft", {"metric_for_best_model": "rougeL"}, "predict_with_generate"),
        ("sft", {"streaming": True, "packing": True}, "max_steps: is wanted beside streaming"),
        ("sft", {"report_to": "wandbb"}, "did you mean 'wandb'"),
    ],
)
def test_the_image_s_own_refusal_comes_from_the_laptop(
    method: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        check_settings(method, values, IMAGE)
    with pytest.raises(UserError) as own:
        parse_config({**values, "method": method})
    assert caught.value.message == own.value.message
    assert caught.value.fix == own.value.fix


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"learning_rate": 1e-5, "use_peft": True, "attn_implementation": "flash_attention_2"},
         IMAGE),  # a package that this machine lacks
        ({"export": "adapter"}, "my-train:1"),
        ({"export": "adapter"}, "sm-train:process"),  # which says it by itself, at once
        ({"export": "adapter", "sagemaker_program": "train.py"}, IMAGE),
        ({"export": "adapter", "config": "sft.yaml"}, IMAGE),
    ],
)  # fmt: skip
def test_what_the_image_takes_or_others_say_is_let_through(
    values: dict[str, Any], image: str
) -> None:
    check_settings("sft", values, image)


def test_a_check_that_cannot_be_run_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_check.sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match=r"check of the hyperparameters failed: .*exit status 1"):
        check_settings("sft", {}, IMAGE)


def test_the_check_needs_no_package_of_the_image() -> None:
    """It runs in the launcher's environment, which has neither torch nor transformers."""
    program = (
        "import sys, runpy\n"
        "class Deny:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers', 'trl', 'datasets',\n"
        "                                      'numpy', 'pyarrow', 'peft', 'accelerate'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Deny())\n"
        "runpy.run_module('sm_train.check', run_name='__main__')\n"
    )
    from sm_launch.job.hyperparameters import methods

    for method in methods():
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps({"method": method}),
            env={"PYTHONPATH": str(trainer_folder())}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout in ("null",) or "message" in json.loads(done.stdout)
