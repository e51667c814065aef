"""Several LoRA adapters on one server, each answer compared with PEFT's own."""

import concurrent.futures
import shutil

import openai
import pytest
from serving_process import Server, base_with

pytestmark = pytest.mark.slow

HEADER = "x_amzn_sagemaker_adapter_identifier"
PROMPTS = ("hello", "the movie was good " * 12, "we loved the acting")


def make_adapter(base, path, seed, **options):
    """A LoRA with large weights, so that its answers differ; saved by PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **options}
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapters(pool, language_model_dir):
    """Three adapters: two in the artefact, one to be loaded later, with other options."""
    folder = pool.root / "adapters"
    if not folder.exists():
        make_adapter(language_model_dir, folder / "formal", 1)
        make_adapter(language_model_dir, folder / "rude", 2, target_modules="all-linear", r=2)
        make_adapter(
            language_model_dir, folder / "late", 3, use_rslora=True, alpha_pattern={"q_proj": 32}
        )
        make_adapter(language_model_dir, folder / "dora", 4, use_dora=True)
    return folder


@pytest.fixture(scope="module")
def expected(adapters, language_model_dir):
    """Greedy answers by PEFT itself for every prompt, adapter and the base model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_model_dir)
    answers = {}
    for name in (None, "formal", "rude", "late"):
        model = AutoModelForCausalLM.from_pretrained(language_model_dir, dtype=torch.float32)
        if name is not None:
            model = PeftModel.from_pretrained(model, adapters / name)
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                out = model.eval().generate(input_ids=ids, max_new_tokens=24, do_sample=False)
            answers[name, prompt] = tokenizer.decode(
                out[0, ids.shape[1] :], skip_special_tokens=True
            )
    for prompt in PROMPTS:
        assert len({answers[name, prompt] for name in (None, "formal", "rude", "late")}) == 4
    return answers


@pytest.fixture(scope="module", params=["continuous", "transformers"])
def server(request, adapters, language_model_dir, tmp_path_factory):
    base = base_with(language_model_dir, tmp_path_factory.mktemp("adapters"))
    for name in ("formal", "rude"):
        shutil.copytree(adapters / name, base / "model" / "adapters" / name)
    shutil.copytree(adapters, base / "more")
    with Server(base, SM_SERVE_ENGINE=request.param) as running:
        yield running


def ask(server, adapter, prompt):
    body = {"inputs": prompt, "parameters": {"max_new_tokens": 24}}
    answer = server.invoke(body, **({HEADER: adapter} if adapter else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()[0]["generated_text"]


def test_mixed_adapters_under_concurrency_equal_peft(server, expected):
    jobs = [(name, prompt) for name in (None, "formal", "rude") for prompt in PROMPTS] * 3
    with concurrent.futures.ThreadPoolExecutor(9) as threads:
        answers = list(threads.map(lambda job: ask(server, *job), jobs))
    assert answers == [expected[job] for job in jobs]


def test_openai_bodies_name_the_adapter_as_their_model(server, expected):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["model", "formal", "rude"]
    assert client.models.retrieve("rude").parent == "model"
    for name in ("model", "formal", "rude"):
        answer = client.completions.create(model=name, prompt="hello", max_tokens=24, temperature=0)
        assert answer.model == name
        assert answer.choices[0].text == expected[None if name == "model" else name, "hello"]
    by_header = client.completions.create(
        model="model", prompt="hello", max_tokens=24, temperature=0,
        extra_headers={"X-Amzn-SageMaker-Adapter-Identifier": "rude"},
    )  # fmt: skip
    assert by_header.choices[0].text == expected["rude", "hello"]
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 24, "adapter_id": "formal"}}
    assert server.invoke(body).json()[0]["generated_text"] == expected["formal", "hello"]


def test_an_unknown_adapter_is_never_the_base_model(server):
    for answer in (
        server.invoke({"inputs": "a"}, **{HEADER: "polite"}),
        server.invoke({"inputs": "a", "parameters": {"adapter_id": "polite"}}),
        server.client.post("/v1/completions", json={"model": "polite", "prompt": "a"}),
        server.client.post(
            "/v1/completions",
            json={"model": "model", "prompt": "a", "stream": True},
            headers={HEADER.replace("_", "-"): "polite"},
        ),
    ):
        assert answer.status_code == 404
        message = answer.json()["error"]["message"]
        assert "polite" in message
        assert "formal, rude" in message


def test_adapters_come_and_go_while_requests_are_answered(server, expected):
    def register(name, source, **more):
        return server.client.post("/adapters", json={"name": name, "src": source, **more})

    body = {
        "inputs": "hello",
        "parameters": {"max_new_tokens": 300, "ignore_eos_token": True, "details": True},
    }
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        busy = [threads.submit(server.invoke, body, **{HEADER: "formal"}) for _ in range(2)]
        answer = register("late", "more/late", preload=True, pin=False)
        assert answer.status_code == 200, answer.text
        assert ask(server, "late", "hello") == expected["late", "hello"]
        assert register("late", "more/late").status_code == 409
        assert server.client.get("/adapters").json() == {"adapters": ["formal", "late", "rude"]}
        assert {done.result().status_code for done in busy} == {200}
        leaving = threads.submit(server.invoke, {**body, "stream": False}, **{HEADER: "late"})
        while "active_generations 1" not in server.client.get("/metrics").text:
            pass
        assert server.client.delete("/adapters/late").status_code == 200
        assert leaving.result().json()[0]["details"]["generated_tokens"] == 300
    assert server.client.delete("/adapters/late").status_code == 404
    assert server.invoke({"inputs": "a"}, **{HEADER: "late"}).status_code == 404
    assert ask(server, None, "hello") == expected[None, "hello"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"name": "x"}, 400, "src="),
        ({"src": "more/late"}, 400, "name="),
        ({"name": "model", "src": "more/late"}, 409, "own name"),
        ({"name": "x", "src": "/etc"}, 400, "below"),
        ({"name": "x", "src": "../../etc"}, 400, "below"),
        ({"name": "x", "src": "s3://bucket/x"}, 400, "nothing is downloaded"),
        ({"name": "x", "src": "more/dora"}, 400, "use_dora=True"),
        ({"name": "x", "src": "more/late", "rank": 3}, 400, "rank is unknown"),
    ],
)
def test_what_cannot_be_loaded_is_named_and_changes_nothing(server, body, status, message):
    answer = server.client.post("/adapters", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert server.client.get("/adapters").json() == {"adapters": ["formal", "rude"]}


def test_damaged_and_foreign_adapters_are_refused(server):
    from safetensors.torch import load_file, save_file

    folder = server.base / "more" / "broken"
    shutil.copytree(server.base / "more" / "late", folder)
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)

    def refusal():
        answer = server.client.post("/adapters", json={"name": "x", "src": "more/broken"})
        assert answer.status_code == 400
        return answer.json()["error"]["message"]

    save_file({name.replace("q_proj", "z_proj"): t for name, t in tensors.items()}, weights)
    assert "z_proj" in refusal()
    save_file({name: t[:, :3].contiguous() for name, t in tensors.items()}, weights)
    assert "another model" in refusal()
    save_file({name: t for name, t in tensors.items() if "lora_A" in name}, weights)
    assert "lacks one matrix" in refusal()
    weights.write_bytes(b"no tensors")
    assert "damaged" in refusal()
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json" in refusal()
    assert server.ping() == 200
