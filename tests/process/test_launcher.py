"""The main job through the command line, in processes: data, training, endpoint, report.

The base model is tiny and random: what is tested is that every part meets the next, and that state
survives from one command to another, not how good the model is.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

SM_LAUNCH = Path(sys.executable).with_name("sm-launch")
VOCABULARY = {
    "positive": ("good", "lovely", "superb", "pleasant", "delightful"),
    "negative": ("bad", "awful", "dreadful", "nasty", "dismal"),
}


class Shell:
    """Runs `sm-launch` as a user does: one process a command, state only on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "SM_LAUNCH_HOME": str(directory / "state"),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            [SM_LAUNCH, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert finished.returncode == expect, finished.stdout + finished.stderr
        return finished


def make_base_model(directory: Path) -> None:
    """A two-layer BERT of random weights with a word-level tokenizer that knows our words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [
        *special,
        *VOCABULARY["positive"],
        *VOCABULARY["negative"],
        "the",
        "film",
        "was",
        "and",
    ]
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{key}_token": value for key, value in names.items()}
    ).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)


def write_raw_data(path: Path) -> None:
    """200 separable rows, and six that cannot be used."""
    chance = random.Random(3)
    lines = ["text,label"]
    for number in range(200):
        label = ("positive", "negative")[number % 2]
        phrase = " and ".join(chance.choices(VOCABULARY[label], k=4))
        lines.append(f"the film {number} was {phrase},{label}")
    lines += [",positive", "the film was good,", "the film was odd,unheard-of"] * 2
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("job")
    make_base_model(directory / "base")
    write_raw_data(directory / "raw.csv")
    document = {
        "name": "tiny",
        "data": {"input": "raw.csv", "labels": ["negative", "positive"]},
        "training": {
            "model": "./base",
            "hyperparameters": {
                "num_train_epochs": 8,
                "learning_rate": 2e-3,
                "per_device_train_batch_size": 8,
                "seed": 5,
            },
        },
    }
    (directory / "job.yaml").write_text(yaml.safe_dump(document))
    shell = Shell(directory)
    yield shell
    shell.run("stop", "--target", "process")
    shell.run("delete", "--target", "process", expect=1)  # a test has deleted it


@pytest.fixture(scope="module")
def trained(shell: Shell) -> dict[str, object]:
    shell.run("data", "prepare")
    finished = shell.run("train", "--target", "process", "--json")
    description: dict[str, object] = json.loads(finished.stdout)
    return description


def test_bad_rows_are_counted_and_kept(shell: Shell, trained: dict[str, object]) -> None:
    prepared = shell.directory / "build" / "tiny" / "data"
    rejected = [json.loads(line) for line in (prepared / "rejected.jsonl").open()]
    assert len(rejected) == 6
    assert all(row["reason"] and row["row"] and row["raw"] for row in rejected)
    rows = [
        json.loads(line)
        for split in ("train", "validation", "test")
        for line in (prepared / split / f"{split}.jsonl").open()
    ]
    assert len(rows) == 200
    assert len({row["text"] for row in rows}) == 200


def test_training_job_is_described_as_sagemaker_does(trained: dict[str, object]) -> None:
    assert trained["TrainingJobStatus"] == "Completed"
    metrics = {metric["MetricName"] for metric in trained["FinalMetricDataList"]}  # type: ignore[attr-defined]
    assert any("loss" in name for name in metrics)
    assert any("accuracy" in name for name in metrics)


def test_the_preview_takes_another_jobs_model(shell: Shell, trained: dict[str, object]) -> None:
    other = ("-s", f"training.model={trained['TrainingJobName']}", "--target", "process")
    shown = shell.run("data", "preview", "--rows", "1", *other).stdout
    assert "[CLS]" in shown and "the film" in shown
    missing = ("-s", "training.model=job:none-of-this-name", "--target", "process")
    assert (
        "there is no such training job" in shell.run("data", "preview", *missing, expect=2).stderr
    )


def test_deploy_invoke_evaluate_delete_from_separate_commands(
    shell: Shell, trained: dict[str, object]
) -> None:
    shell.run("deploy", "--target", "process")
    text = "the film 3 was superb and lovely and good and pleasant"
    reply = shell.run("invoke", "tiny", "--text", text, "--target", "process")
    assert json.loads(reply.stdout)[0]["label"] == "positive"

    result = json.loads(shell.run("evaluate", "--target", "process", "--json").stdout)
    assert result["metrics"]["accuracy"] > 0.9
    html = (shell.directory / "build" / "tiny" / "report" / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "svg" in html

    shell.run("evaluate", "--target", "process", "--fail-under", "accuracy=1.01", expect=3)
    assert "tiny" in shell.run("list", "--target", "process").stdout
    shell.run("delete", "tiny", "--target", "process")
    shell.run("invoke", "tiny", "--text", "x", "--target", "process", expect=1)


def test_typo_costs_milliseconds_not_a_job(shell: Shell) -> None:
    finished = shell.run(
        "train", "--target", "process", "-s", "training.hyperparameters.learning_rte=1", expect=2
    )
    assert "did you mean 'learning_rate'?" in finished.stderr


def test_dry_run_prints_the_request_and_starts_nothing(
    shell: Shell, trained: dict[str, object]
) -> None:
    before = json.loads(shell.run("list", "--target", "process", "--json").stdout)
    request = json.loads(shell.run("train", "--target", "process", "--dry-run").stdout)
    assert request["HyperParameters"]["method"] == "text-classification"
    after = json.loads(shell.run("list", "--target", "process", "--json").stdout)
    assert before["TrainingJobs"] == after["TrainingJobs"]


def test_interrupt_detaches_and_stop_ends_the_job(shell: Shell, trained: dict[str, object]) -> None:
    command = [SM_LAUNCH, "train", "--target", "process"]
    long = ["-s", "training.hyperparameters.num_train_epochs=10000"]
    follower = subprocess.Popen(
        [*command, *long],
        cwd=shell.directory,
        env=shell.environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert follower.stderr is not None
    started = follower.stderr.readline()
    assert "started" in started
    time.sleep(1)
    follower.send_signal(signal.SIGINT)
    _, output = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert "--attach" in output
    name = started.split()[2]
    assert "InProgress" in shell.run("list", "--name", name, "--target", "process").stdout
    assert "Stopped" in shell.run("stop", name, "--target", "process").stdout


def test_the_same_from_python(
    shell: Shell, trained: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sm_launch

    for name in ("SM_LAUNCH_HOME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, shell.environment[name])
    job = shell.directory / "job.yaml"
    started = sm_launch.train(job, target="process", wait=False)
    sm_launch.stop(started["TrainingJobName"], target="process")
    described = sm_launch.deploy(
        job, target="process", name="by-python", training_job=str(trained["TrainingJobName"])
    )
    assert described["EndpointStatus"] == "InService"
    text = "the film 3 was superb and lovely and good and pleasant"
    assert sm_launch.invoke("by-python", text, target="process")[0]["label"] == "positive"
    by_endpoint = sm_launch.evaluate(job, target="process", endpoint="by-python")
    with_report = sm_launch.compare(
        shell.directory / "build" / "tiny" / "report",
        "by-python",
        job=job,
        target="process",
        output=shell.directory / "compared",
    )
    assert with_report.mcnemar.p_value == 1.0
    gone = sm_launch.delete("by-python", target="process")
    assert "endpoint by-python" in gone

    # The artefact by itself: served meanwhile, and nothing is left of that.
    artefact = str(trained["ModelArtifacts"]["S3ModelArtifacts"])  # type: ignore[index]
    output = shell.directory / "artefact-report"
    by_artefact = sm_launch.evaluate(job, model_data=artefact, output=output)
    listed = json.loads(shell.run("list", "--json", "--target", "process").stdout)
    assert all(endpoint["EndpointStatus"] == "Deleting" for endpoint in listed["Endpoints"])
    assert by_artefact.metrics == by_endpoint.metrics
    assert by_artefact.intervals["accuracy"].high == 1.0
    endpoint = sm_launch.compare(
        shell.directory / "build" / "tiny" / "report", output, output=shell.directory / "compared"
    )
    assert not any(difference.significant for difference in endpoint.metrics)


def test_an_optimized_model_is_proven_served_and_answers_alike(
    shell: Shell, trained: dict[str, object]
) -> None:
    finished = shell.run("optimize", "--target", "process", "--json")
    made = json.loads(finished.stdout)
    measured = made["measured"]
    assert measured["precision"] == "int8"
    assert measured["metric"] == "accuracy"
    assert all(value > 0 for side in ("before", "after") for value in measured[side].values())
    assert made["comparison"]["mcnemar"]["p_value"] == 1.0
    sides = [shell.directory / "build/tiny/optimization" / side for side in ("before", "after")]
    before, after = (
        [json.loads(line) for line in (side / "predictions.jsonl").open()] for side in sides
    )
    assert [row["predicted"] for row in before] == [row["predicted"] for row in after]
    model = Path(made["model"].removeprefix("file://"))
    with tarfile.open(model) as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"config.json", "onnx/model_quantized.onnx", "tokenizer.json", "README.md"} <= names
    assert not any(name.endswith(".safetensors") for name in names)


def test_a_model_that_int8_would_spoil_is_refused_and_nothing_exported(
    shell: Shell, trained: dict[str, object], tmp_path: Path
) -> None:
    """One weight is huge, and meets zeros only: no other of its row is left in seven bits."""
    from safetensors.torch import load_file, save_file

    with tarfile.open(str(trained["ModelArtifacts"]["S3ModelArtifacts"])[7:]) as archive:  # type: ignore[index]
        archive.extractall(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    for name in ("weight", "bias"):
        weights[f"bert.encoder.layer.1.output.LayerNorm.{name}"][7] = 0.0
    weights["bert.pooler.dense.weight"][:, 7] = 1e5
    save_file(weights, file, {"format": "pt"})
    options = ("optimize", "--target", "process", "--model-data", str(tmp_path))
    refused = shell.run(*options, expect=1)
    assert "accuracy was" in refused.stderr
    assert "max_drop" in refused.stderr
    jobs = json.loads(shell.run("list", "--target", "process", "--json").stdout)["TrainingJobs"]
    name = next(job["TrainingJobName"] for job in jobs if "-optimize-" in job["TrainingJobName"])
    assert not (shell.directory / "build/tiny/jobs" / name / "output/model.tar.gz").exists()


def test_a_job_run_again_is_the_same_and_not_begun_with_other_data(
    shell: Shell, trained: dict[str, object]
) -> None:
    name = str(trained["TrainingJobName"])
    outcome = json.loads(shell.run("reproduce", name, "--target", "process", "--json").stdout)
    assert (outcome["agrees"], outcome["weights"], outcome["metrics"]) == (True, [], [])
    assert outcome["compared"]["weights"] == 1 and outcome["compared"]["metrics"] > 5
    assert outcome["causes"] == []
    request = json.loads(shell.run("deploy", "--target", "process", "--dry-run").stdout)
    served = request["create_model"]["PrimaryContainer"]["ModelDataUrl"]
    assert "reproduced" not in served  # it is no new model of this job.yaml

    rows = shell.directory / "build/tiny/data/train/train.jsonl"
    before = rows.read_text()
    rows.write_text(before.replace("was", "is", 1))
    try:
        refused = shell.run("reproduce", name, "--target", "process", expect=2)
    finally:
        rows.write_text(before)
    assert f"channel train ({rows.parent})" in refused.stderr and "--anyway" in refused.stderr
