"""The translation to vLLM's own classes; it needs vllm, and no GPU."""

import dataclasses
import importlib
import types
from importlib.util import find_spec

import pytest

from sm_serve.config import VLLM_PREFIX, load_settings
from sm_serve.engines import registry
from sm_serve.engines.generators import vllm as engine
from sm_serve.engines.generators import vllm_arguments as arguments
from sm_serve.engines.generators import vllm_values as values
from sm_serve.errors import StartupError
from sm_serve.protocol import Constraint, ConstraintKind, Sampling

EOS = frozenset({2, 7})


@pytest.fixture
def parameters():
    if not find_spec("vllm"):
        pytest.skip("vllm is not installed: `make test-vllm`")
    return importlib.import_module("vllm.sampling_params")  # a broken one fails the test


def test_every_field_of_a_sampling_reaches_vllm(parameters):
    sampling = Sampling(
        max_new_tokens=30, min_new_tokens=3, temperature=0.7, top_k=40, top_p=0.9, min_p=0.1,
        repetition_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.4,
        logit_bias=((5, -1.0),), seed=9, logprobs=2,
    )  # fmt: skip
    written = values.write_sampling(sampling, EOS, incremental=True)
    assert (written.max_tokens, written.min_tokens, written.temperature) == (30, 3, 0.7)
    assert (written.top_k, written.top_p, written.min_p, written.seed) == (40, 0.9, 0.1, 9)
    assert (written.repetition_penalty, written.frequency_penalty) == (1.2, 0.3)
    assert (written.presence_penalty, written.logit_bias, written.logprobs) == (0.4, {5: -1.0}, 2)
    assert written.stop_token_ids == [2, 7]
    assert written.output_kind is parameters.RequestOutputKind.DELTA


def test_greedy_and_the_end_of_sequence(parameters):
    sampling = Sampling(max_new_tokens=5, temperature=2.0, top_k=1, seed=1, ignore_eos=True)
    written = values.write_sampling(sampling, EOS, incremental=False)
    assert (written.temperature, written.seed, written.ignore_eos) == (0.0, None, True)
    assert not written.stop_token_ids
    assert written.output_kind is parameters.RequestOutputKind.FINAL_ONLY


@pytest.mark.parametrize(
    ("kind", "value", "field", "expected"),
    [
        (ConstraintKind.JSON_SCHEMA, '{"type": "object"}', "json", {"type": "object"}),
        (ConstraintKind.CHOICE, '["a", "b"]', "choice", ["a", "b"]),
        (ConstraintKind.REGEX, "a+", "regex", "a+"),
        (ConstraintKind.GRAMMAR, 'root ::= "a"', "grammar", 'root ::= "a"'),
    ],
)
def test_constraints(parameters, kind, value, field, expected):
    sampling = Sampling(constraint=Constraint(kind, value))
    assert getattr(values.write_constraint(sampling), field) == expected


def test_tokens_and_logprobs_come_back():
    def entry(value):
        return types.SimpleNamespace(logprob=value)

    output = types.SimpleNamespace(
        token_ids=[4, 5], logprobs=[{4: entry(-0.1)}, {5: entry(-3.0), 8: entry(-0.2)}]
    )
    chunk = values.read_output(output, Sampling(logprobs=1))
    assert chunk.tokens == (4, 5)
    assert [e.logprob for e in chunk.logprobs] == [-0.1, -3.0]
    assert [e.top[0].token for e in chunk.logprobs] == [4, 8]
    assert values.read_output(output, Sampling()).logprobs == ()


def test_a_prompts_logprobs_come_back_without_one_for_its_first_token():
    rows = [None, {5: types.SimpleNamespace(logprob=-3.0), 8: types.SimpleNamespace(logprob=-0.2)}]
    first, second = values.read_prompt([4, 5], rows, 1)
    assert (first.token, first.logprob, first.top) == (4, None, ())
    assert (second.token, second.logprob) == (5, -3.0)
    assert [other.token for other in second.top] == [8]


@pytest.mark.slow
def test_the_largest_adapter_decides_the_rank(tmp_path):
    from sm_serve.artefact.artefact import Artefact
    from sm_serve.config import Settings
    from sm_serve.protocol import Task

    (tmp_path / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"q": 20}}')
    artefact = Artefact(tmp_path, tmp_path, Task.TEXT_GENERATION, {}, {"a": tmp_path})
    arguments = engine.engine_arguments(artefact, Settings())
    assert (arguments["enable_lora"], arguments["max_lora_rank"]) == (True, 32)
    assert arguments["load_format"] == "safetensors"
    assert not arguments["enable_tower_connector_lora"]
    alone = dataclasses.replace(artefact, adapters={}, base=tmp_path / "base")
    assert engine.engine_arguments(alone, Settings())["max_lora_rank"] == 32
    plain = dataclasses.replace(artefact, adapters={})
    assert "enable_lora" not in engine.engine_arguments(plain, Settings())
    (tmp_path / "adapter_config.json").write_text('{"r": 1024}')
    with pytest.raises(StartupError, match="rank 1024"):
        engine.engine_arguments(artefact, Settings())


def given(tmp_path, text=None, **environ):
    """What vLLM's arguments come to, of a file and of variables."""
    if text is not None:
        (tmp_path / arguments.FILE).write_text(text)
    named = {f"{VLLM_PREFIX}{name}": value for name, value in environ.items()}
    settings = load_settings({"SAGEMAKER_BASE_DIR": str(tmp_path), **named})
    return arguments.parse_arguments(arguments.given_arguments(tmp_path, settings), settings)


def test_arguments_are_read_by_vllms_own_parser_and_variables_go_first(parameters, tmp_path):
    text = "max_model_len: 8k\nenforce-eager: true\nlimit_mm_per_prompt: {image: 2}\n"
    arguments = given(
        tmp_path, text, MAX_MODEL_LEN="4096", ENABLE_PREFIX_CACHING="false",
        SPECULATIVE_CONFIG='{"method": "ngram"}', CUDAGRAPH_CAPTURE_SIZES="1 2 4",
        GPU_MEMORY_UTILIZATION="0.5",
    )  # fmt: skip
    assert arguments == {
        "max_model_len": 4096, "enforce_eager": True, "limit_mm_per_prompt": {"image": 2},
        "enable_prefix_caching": False, "speculative_config": {"method": "ngram"},
        "cudagraph_capture_sizes": [1, 2, 4], "gpu_memory_utilization": 0.5,
    }  # fmt: skip


def test_a_draft_is_named_from_where_its_file_lies_and_lies_in_the_artefact(parameters, tmp_path):
    model = tmp_path / "model"
    (model / "draft").mkdir(parents=True)
    text = "speculative_config: {method: draft_model, model: draft, num_speculative_tokens: 3}\n"
    assert given(model, text)["speculative_config"]["model"] == str(model / "draft")
    for elsewhere in ("../other", str(tmp_path), "org/model", "."):
        (tmp_path / "other").mkdir(exist_ok=True)
        text = f"speculative_config: {{method: draft_model, model: {elsewhere!r}}}\n"
        with pytest.raises(StartupError, match="is no folder of"):
            given(model, text)


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("max_model_lenght: 5", {}, "vllm.yaml: max_model_lenght.*did you mean max_model_len?"),
        (None, {"MAX_MODEL_LEN": "abc"}, "SM_SERVE_VLLM_MAX_MODEL_LEN='abc'.*max-model-len"),
        (None, {"ENFORCE_EAGER": "perhaps"}, "ENFORCE_EAGER='perhaps'.*true or false"),
        (None, {"DTYPE": "half"}, "DTYPE='half'.*set SM_SERVE_DTYPE"),
        (None, {"MODEL": "x"}, "MODEL='x'.*the artefact's"),
        ("load_format: pt", {}, "load_format='pt'.*SM_SERVE_ALLOW_PICKLE_WEIGHTS"),
        ("worker_cls: a.b", {}, "worker_cls='a.b' names code"),
        ("[1, 2]", {}, "must hold vLLM's arguments by name"),
        ("a: [", {}, "is no YAML"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(parameters, tmp_path, text, environ, said):
    with pytest.raises(StartupError, match=said):
        given(tmp_path, text, **environ)


def test_arguments_of_vllm_are_refused_for_another_engine(tmp_path, caplog):
    settings = load_settings({"SAGEMAKER_BASE_DIR": str(tmp_path), "SM_SERVE_VLLM_SEED": "1"})
    with pytest.raises(StartupError, match=r"SM_SERVE_VLLM_SEED='1'.*SM_SERVE_ENGINE=vllm"):
        registry.refuse_vllm_settings("continuous", settings)
    settings = load_settings({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / arguments.FILE).touch()
    registry.refuse_vllm_settings("continuous", settings)
    assert "vllm.yaml changes nothing here" in caplog.text
