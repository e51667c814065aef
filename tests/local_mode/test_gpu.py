"""Both GPU images on this machine's GPUs, in local mode: `make test-gpu` on a workstation.

What is trained by one image is served by the other, and answers as transformers does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time

import pytest
from serving_models import VOCABULARY, language_model

from sm_launch import images
from sm_launch.sessions.docker import DockerSession

HAS_GPU = shutil.which("nvidia-smi") is not None
pytestmark = [
    pytest.mark.docker,
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # the first test builds the images
    pytest.mark.skipif(
        not (HAS_GPU and os.environ.get("TEST_GPU")),
        reason="`make test-gpu` builds the GPU images and uses this machine's GPU",
    ),
]

ROLE = "arn:aws:iam::000000000000:role/sm-launch-local"
INSTANCE = "local_gpu"
FEW = {"max_steps": "4", "per_device_train_batch_size": "4", "report_to": "none"}
PROMPTS = [f"{word} film" for word in VOCABULARY.split()[:4]]
TRAININGS = {
    "classification": ("text-classification", {}),
    "sft": ("sft", {"packing": "true", "max_length": "256", "use_liger_kernel": "true"}),
    "compiled": ("sft", {"torch_compile": "true"}),
    "lora": ("sft", {"use_peft": "true"}),
    "qlora": ("sft", {"use_peft": "true", "load_in_4bit": "true"}),
    "dpo": ("dpo", {"use_peft": "true", "max_length": "128"}),
    "grpo": (
        "grpo",
        {"reward_funcs": '["length"]', "num_generations": "4", "max_completion_length": "16"},
    ),
}


@pytest.fixture(scope="module")
def gpu_images():
    """Short name to image: built here, or before under the tag TEST_GPU_TAG."""
    if tag := os.environ.get("TEST_GPU_TAG"):
        names = [f"sm-{name}" for name in images.IMAGES]
        return {name: images.Image(name, f"{name}:{tag}-gpu", None, 0) for name in names}
    base = os.environ.get("BASE_IMAGE")
    return {image.name: image for image in images.build("gpu", "gpu-test", base_image=base)}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return language_model(tmp_path_factory.mktemp("decoder"))


@pytest.fixture
def gpu_jobs(new_jobs, gpu_images, decoder):
    jobs = new_jobs(gpu_images["sm-train"].uri, decoder)
    jobs.instance = INSTANCE
    return jobs


def rows(method: str) -> list[dict]:
    chance = random.Random(1)

    def some() -> str:
        return " ".join(chance.choice(VOCABULARY.split()) for _ in range(8))

    if method == "text-classification":
        return [{"text": some(), "label": "ab"[i % 2]} for i in range(64)]
    if method == "dpo":
        return [{"prompt": some(), "chosen": some(), "rejected": some()} for _ in range(64)]
    if method == "grpo":
        return [{"prompt": some(), "answer": "good"} for _ in range(64)]
    return [{"prompt": some(), "completion": some()} for _ in range(64)]


def train(jobs, name: str, method: str, settings: dict[str, str], model):
    """The log and the artefact of a job that succeeds."""
    shutil.rmtree(jobs.root / "train", ignore_errors=True)
    lines = "\n".join(map(json.dumps, rows(method)))
    channels = {"train": jobs.write("train", "rows.jsonl", lines), "model": model}
    jobs.run(name, {"method": method, **FEW, **settings}, channels)
    description = jobs.wait(name)
    assert description["TrainingJobStatus"] == "Completed", jobs.log(name)
    archive = jobs.root / "out" / name / "output" / "model.tar.gz"
    artefact = jobs.root / "artefacts" / name
    artefact.mkdir(parents=True)
    subprocess.run(["tar", "xzf", archive, "-C", artefact], check=True)
    return jobs.log(name), artefact


@pytest.mark.parametrize("name", TRAININGS)
def test_training(name, gpu_jobs, decoder):
    method, settings = TRAININGS[name]
    log, artefact = train(gpu_jobs, name, method, settings, decoder)
    assert "devices: NVIDIA" in log
    assert (artefact / "config.json").is_file()
    if name == "sft":
        assert "attention: flash_attention" in log, "flash-attn is not in this image"


def test_shards_on_two_gpus_train_what_copies_do(gpu_jobs, decoder):
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    if listed.stdout.count("GPU ") < 2:
        pytest.skip("needs two GPUs")
    losses = {}
    for name, settings in {"ddp": {}, "fsdp": {"parallelism": "fsdp"}}.items():
        log, artefact = train(gpu_jobs, name, "sft", {**settings, "logging_steps": "1"}, decoder)
        losses[name] = [float(x.split()[0]) for x in log.split(" loss=")[1:]]
        assert (artefact / "model.safetensors").is_file()
    assert losses["fsdp"] == pytest.approx(losses["ddp"], rel=5e-3)


def test_a_stopped_job_resumes(gpu_jobs, decoder):
    checkpoints = {"CheckpointConfig": {"S3Uri": (gpu_jobs.root / "checkpoints").as_uri()}}
    lines = "\n".join(map(json.dumps, rows("sft")))
    channels = {"train": gpu_jobs.write("train", "rows.jsonl", lines), "model": decoder}
    settings = {"method": "sft", **FEW, "max_steps": "400", "logging_steps": "1"}
    gpu_jobs.run("first", settings, channels, extra=checkpoints)
    while " loss=" not in gpu_jobs.log("first"):
        time.sleep(0.3)
    gpu_jobs.session.stop_training_job(TrainingJobName="first")
    assert gpu_jobs.wait("first")["TrainingJobStatus"] == "Stopped"
    gpu_jobs.run("second", settings, channels, extra=checkpoints)
    assert gpu_jobs.wait("second")["TrainingJobStatus"] == "Completed", gpu_jobs.log("second")
    assert "resuming from" in gpu_jobs.log("second")


def serve(home, image: str, model, environment: dict[str, str], bodies: list[dict]) -> list:
    """What an endpoint on the GPU answers."""
    session = DockerSession(home)
    source = {"S3Uri": f"{model.as_uri()}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {
        "Image": image,
        "ModelDataSource": {"S3DataSource": source},
        "Environment": environment,
    }
    variant = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": INSTANCE,
               "InitialInstanceCount": 1}  # fmt: skip
    session.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    session.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    session.create_endpoint(EndpointName="e", EndpointConfigName="c")
    try:
        while session.describe_endpoint(EndpointName="e")["EndpointStatus"] == "Creating":
            time.sleep(0.5)
        log = "\n".join(session.endpoint_log_lines("e")[0])
        assert session.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService", log
        return [
            json.loads(
                session.invoke_endpoint(
                    EndpointName="e",
                    ContentType="application/json",
                    Body=json.dumps(body).encode(),
                )["Body"].read()
            )
            for body in bodies
        ]
    finally:
        session.delete_endpoint(EndpointName="e")


@pytest.fixture(scope="module")
def expected(decoder):
    """transformers' own greedy answers, in float32 on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(decoder), AutoModelForCausalLM
    loaded = model.from_pretrained(decoder)
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            made = loaded.generate(ids, max_new_tokens=12, do_sample=False)
        answers.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    return answers


@pytest.mark.parametrize("engine", ["continuous", "vllm"])
def test_serving_answers_as_transformers_does(engine, tmp_path, gpu_images, decoder, expected):
    bodies = [
        {"inputs": prompt, "parameters": {"max_new_tokens": 12, "do_sample": False}}
        for prompt in PROMPTS
    ]
    environment = {"SM_SERVE_ENGINE": engine, "SM_SERVE_DTYPE": "float32"}
    image = gpu_images["sm-serve"].uri
    answers = serve(tmp_path, image, decoder, environment, bodies)
    assert [answer[0]["generated_text"] for answer in answers] == expected


@pytest.mark.parametrize("engine", ["continuous", "vllm"])
def test_an_adapter_that_was_trained_here(engine, tmp_path, gpu_jobs, gpu_images, decoder):
    settings = {"use_peft": "true", "export": "adapter", "learning_rate": "0.01"}
    _, adapter = train(gpu_jobs, "adapter", "sft", settings, decoder)
    model = tmp_path / "model"
    shutil.copytree(decoder, model)
    shutil.copytree(adapter, model / "adapters" / "tuned")
    parameters = {"max_new_tokens": 12, "do_sample": False}
    bodies = [
        {"inputs": PROMPTS[0], "parameters": parameters},
        {"inputs": PROMPTS[0], "parameters": {**parameters, "adapter_id": "tuned"}},
    ]
    home = tmp_path / "home"
    answers = serve(home, gpu_images["sm-serve"].uri, model, {"SM_SERVE_ENGINE": engine}, bodies)
    plain, tuned = (answer[0]["generated_text"] for answer in answers)
    assert plain != tuned


def test_a_classifier_that_was_trained_here(tmp_path, gpu_jobs, gpu_images, model):
    _, artefact = train(gpu_jobs, "labels", "text-classification", {}, model)
    bodies = [{"inputs": row["text"]} for row in rows("text-classification")[:4]]
    answers = serve(tmp_path / "home", gpu_images["sm-serve"].uri, artefact, {}, bodies)
    assert {answer[0]["label"] for answer in answers} <= {"a", "b"}
