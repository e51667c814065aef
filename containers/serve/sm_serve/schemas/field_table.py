"""The fields of every body that is read: parsing, checks and the OpenAPI document use them.

By their makers' names: Hugging Face's pipelines and text-generation-inference (TGI), OpenAI's API,
vLLM's additions to it.
"""

from __future__ import annotations

from sm_serve.protocol import ADAPTER
from sm_serve.schemas.fields import (
    ANYTHING,
    NOT_OFFERED,
    Field,
    Kind,
    Schema,
    biases,
    flag,
    integer,
    number,
    optional,
    shaped,
    text,
    texts,
)

MAX_STOPS, MAX_STOP_LENGTH = 16, 256
MAX_SEED = 2**63 - 1
MAX_BIASES = 1024
MAX_TOP_LOGPROBS = 20
MAX_TOKENS = 1_000_000
MAX_SEQUENCES = 16
MAX_CHOICE_TEXTS = 1_000
MAX_CONSTRAINT = 100_000
MAX_TOOLS = 128
MAX_VARIABLES = 64
TOOL_NAME = "[A-Za-z0-9_.:/-]{1,128}"
TEMPLATE_OWN = frozenset({
    *("self", "conversation", "messages", "tools", "documents", "chat_template", "tokenize"),
    *("add_generation_prompt", "continue_final_message", "sanitize_control_tokens", "padding"),
    *("truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"),
    *("return_assistant_tokens_mask", "processor_kwargs"),
})  # fmt: skip
"""Names that mean something else to the chat template or its function."""

TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object"}
JSON_SCHEMA: Schema = {"type": "object", "description": "a JSON schema"}
LONG_TEXT = text(most=MAX_CONSTRAINT, example="a+")
STOP = texts(MAX_STOPS, MAX_STOP_LENGTH)


def array(items: Schema, **bounds: int) -> Schema:
    """The schema of a list."""
    return {"type": "array", "items": items, **bounds}


def refused(
    *names: str, off: tuple[object, ...] = (), refusal: str = NOT_OFFERED
) -> tuple[Field, ...]:
    """Known fields that cannot be obeyed."""
    return tuple(Field(name, ANYTHING, refusal=refusal, off=off) for name in names)


def labels(*names: str) -> tuple[Field, ...]:
    """The client's own bookkeeping."""
    return tuple(Field(name, ANYTHING, label=True) for name in names)


MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": TEXT,
        "content": {
            "anyOf": [
                TEXT,
                {"type": "null"},
                array({"type": "object", "properties": {"text": TEXT}, "required": ["text"]}),
            ]
        },
    },
    "required": ["role"],
}
ADAPTER_FIELD = Field(ADAPTER, text(example="mood"))

# How tokens are chosen, in all formats alike.
CHOOSING = (
    Field("temperature", number(0, 100, 0.7)),
    Field("min_p", number(0, 1, 0.1)),
    Field("repetition_penalty", number(0.01, 10, 1.5)),
    Field("frequency_penalty", number(-2, 2, 0.5)),
    Field("presence_penalty", number(-2, 2, 0.5)),
    Field("logit_bias", biases(MAX_BIASES)),
    Field("stop", STOP),
)
A_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA_OR_TEXT = shaped(
    {"anyOf": [JSON_SCHEMA, {"type": "string", "contentMediaType": "application/json"}]},
    A_SCHEMA, (dict, str), "give a JSON schema as an object",
)  # fmt: skip
CHOICES = shaped(
    array({"type": "string", "minLength": 1}, minItems=1, maxItems=MAX_CHOICE_TEXTS),
    ["a", "b"], list, f"give a list of 1 to {MAX_CHOICE_TEXTS} texts, none empty",
)  # fmt: skip
FORMAT: Schema = {
    "type": "object",
    "properties": {
        "type": {
            "enum": ["text", "json_object", "json_schema", "json", "regex"],
            "description": "json and regex, with value, as in text-generation-inference",
        }
    },
    "required": ["type"],
}
# What the answer must be, in every dialect.
CONSTRAINTS = (
    Field("response_format", shaped(FORMAT, {"type": "json_object"}, dict,
                                    "give an object with a type")),
    Field("grammar", shaped(FORMAT, {"type": "regex", "value": "a+"}, dict,
                            'give {"type": "json" or "regex", "value": ...}')),
    Field("structured_outputs", shaped(OBJECT, {"choice": ["a", "b"]}, dict, "give an object")),
    Field("guided_json", SCHEMA_OR_TEXT),
    Field("guided_regex", LONG_TEXT),
    Field("guided_choice", CHOICES),
    Field("guided_grammar", text(most=MAX_CONSTRAINT, example='start: "a"')),
    *refused("guided_decoding_backend", off=("auto",)),
    *refused("guided_whitespace_pattern", "structural_tag"),
)  # fmt: skip
TRUNCATION = shaped(
    {"enum": [True, False, "longest_first", "only_first", "only_second", "do_not_truncate"]},
    "only_first", (bool, str), "give true, false or what to cut",
)  # fmt: skip
BEAMS = (
    Field("num_beams", integer(1, 16, 3)),
    Field("length_penalty", number(-10, 10, 2.0)),
    Field("early_stopping", shaped({"enum": [True, False, "never"]}, True, (bool, str),
                                   'give true, false or "never"')),
    Field("no_repeat_ngram_size", integer(0, 100, 2)),
    Field("max_length", integer(1, MAX_TOKENS, 30)),
    Field("min_length", integer(0, MAX_TOKENS, 3)),
    Field("src_lang", text(example="en_XX")),
    Field("tgt_lang", text(example="de_DE")),
)  # fmt: skip
GENERATION = (
    *CHOOSING,
    *CONSTRAINTS,
    *BEAMS,
    ADAPTER_FIELD,
    Field("max_new_tokens", integer(1, MAX_TOKENS, 7)),
    Field("min_new_tokens", integer(0, MAX_TOKENS, 3)),
    Field("do_sample", flag()),
    Field("top_k", integer(0, MAX_TOKENS, 7)),
    Field("top_p", number(1e-6, 1, 0.5)),
    Field("seed", integer(0, MAX_SEED, 7)),
    Field("stop_sequences", STOP),
    Field("ignore_eos_token", flag()),
    Field("return_full_text", flag()),
    Field("details", flag()),
    Field("decoder_input_details", flag()),
    Field("top_n_tokens", integer(0, MAX_TOP_LOGPROBS, 3)),
    Field("num_return_sequences", integer(1, MAX_SEQUENCES, 2)),
    Field("truncate", integer(1, MAX_TOKENS, 7)),
    Field("truncation", TRUNCATION),
    *labels("use_cache", "pad_token_id"),  # speed and padding: no answer changes
    *labels("sagemaker_base_url"),  # litellm's own: where it sends to
    *refused("best_of", "num_beam_groups", off=(1,)),
    *refused("watermark", "return_tensors", "clean_up_tokenization_spaces", off=(False,)),
    *refused("output_scores", "renormalize_logits", "remove_invalid_values", off=(False,)),
    *refused("return_dict_in_generate", off=(False,)),
    *refused("return_text", off=(True,)),
    *refused("typical_p", "encoder_repetition_penalty", "guidance_scale", off=(1, 1.0)),
    *refused("epsilon_cutoff", "eta_cutoff", "penalty_alpha", "diversity_penalty", off=(0, 0.0)),
    *refused("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "eos_token_id"),
    *refused("forced_bos_token_id", "forced_eos_token_id", "prefix", "max_time", "force_words_ids"),
    *refused("exponential_decay_length_penalty", "handle_long_generation", "stop_strings"),
    *refused("prompt_lookup_num_tokens", "assistant_model", "cache_implementation"),
)  # fmt: skip

INCLUDE_USAGE = {
    "type": "object",
    "properties": {
        "include_usage": {"type": "boolean"},
        "continuous_usage_stats": {"type": "boolean"},
        "include_obfuscation": {"const": False},
    },
    "additionalProperties": False,
}
OPENAI = (
    *CHOOSING,
    *CONSTRAINTS,
    Field("model", text(example="mood")),
    Field("top_p", number(0, 1, 0.5)),
    Field("top_k", integer(-1, MAX_TOKENS, 7)),
    Field("n", integer(1, MAX_SEQUENCES, 2)),
    Field("stream", flag()),
    Field("stream_options", shaped(INCLUDE_USAGE, {"include_usage": True}, dict,
                                   'give {"include_usage": true} or leave it')),
    Field("max_tokens", integer(0, MAX_TOKENS, 7)),
    Field("min_tokens", integer(0, MAX_TOKENS, 3)),
    Field("seed", integer(-MAX_SEED, MAX_SEED, 7)),
    Field("ignore_eos", flag()),
    Field("truncate_prompt_tokens", integer(1, MAX_TOKENS, 7)),
    *labels("user", "metadata", "request_id", "safety_identifier", "prompt_cache_key"),
    *labels("sagemaker_base_url"),
    *refused("best_of", off=(1,)),
    *refused("use_beam_search", "include_stop_str_in_output", "return_token_ids", off=(False,)),
    *refused("return_tokens_as_token_ids", "logprobs_token_ids", off=(False,)),
    *refused("skip_special_tokens", "spaces_between_special_tokens", off=(True,)),
    *refused("length_penalty", off=(1, 1.0)),
    *refused("priority", off=(0,)),
    *refused("stop_token_ids", "bad_words", "allowed_token_ids", "prompt_logprobs", "cache_salt"),
    *refused("logits_processors", "kv_transfer_params", "vllm_xargs", "early_stopping"),
)  # fmt: skip
NAMED_FUNCTION: Schema = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}
NAMED_TOOL: Schema = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "function": NAMED_FUNCTION},
    "required": ["function"],
}
TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": f"^{TOOL_NAME}$"},
                "parameters": {"anyOf": [JSON_SCHEMA, {"type": "null"}]},
            },
            "required": ["name"],
        },
    },
    "required": ["function"],
}
VARIABLES: Schema = {
    "type": "object",
    "propertyNames": {"not": {"enum": sorted(TEMPLATE_OWN)}},
    "maxProperties": MAX_VARIABLES,
}
A_TOOL = {"type": "function", "function": {"name": "f"}}
CHAT = (
    *OPENAI,
    Field("messages", shaped(array(MESSAGE, minItems=1), [{"role": "user", "content": "x"}], list,
                             'give a list of {"role": ..., "content": ...}'), required=True),
    Field("max_completion_tokens", integer(1, MAX_TOKENS, 7)),
    Field("logprobs", flag()),
    Field("top_logprobs", integer(0, MAX_TOP_LOGPROBS, 3)),
    Field("tools", shaped(array(TOOL, maxItems=MAX_TOOLS), [A_TOOL], list,
                          f"give a list of at most {MAX_TOOLS} tools")),
    Field("tool_choice", shaped({"anyOf": [{"enum": ["auto", "none", "required"]}, NAMED_TOOL]},
                                "required")),
    Field("parallel_tool_calls", flag(False)),
    Field("continue_final_message", flag()),
    Field("reasoning_effort", text(example="low")),
    Field("chat_template_kwargs", shaped(VARIABLES, {"enable_thinking": False}, dict,
                                         'give an object such as {"enable_thinking": false}')),
    *refused("modalities", off=(["text"],)),
    *refused("verbosity", off=("medium",)),
    *refused("service_tier", off=("auto", "default")),
    *refused("store", "echo", "add_special_tokens", off=(False,)),
    *refused("function_call", off=("none", "auto")),
    *refused("prompt_cache_retention", off=("in_memory", "in-memory")),
    # Its contrary is continue_final_message.
    *refused("add_generation_prompt", off=(True,)),
    Field("include_reasoning", flag(False)),
    *refused("functions", "audio", "prediction", "web_search_options", "documents"),
    *refused("chat_template", "mm_processor_kwargs", "media_io_kwargs", "thinking_token_budget"),
    *refused("tool_prompt"),
)  # fmt: skip
RESPONSE_FORMAT = shaped(
    {"type": "object", "properties": {"format": optional(OBJECT)}},
    {"format": {"type": "json_object"}}, dict, "give an object",
)  # fmt: skip
VLLMS = ("top_k", "min_p", "min_tokens", "stop", "seed", "ignore_eos", "repetition_penalty",
         "frequency_penalty", "presence_penalty", "logit_bias", "chat_template_kwargs")  # fmt: skip
"""Fields of chat that vLLM takes in the Responses API as well."""
RESPONSES = (
    *(field for field in CHAT if field.name in VLLMS),
    Field("input", shaped({"anyOf": [TEXT, array(OBJECT, minItems=1)]}, "x", (str, list),
                          "give a text or a list of items"), required=True),
    Field("model", text(example="mood")),
    Field("instructions", text(example="be brief")),
    Field("max_output_tokens", integer(1, MAX_TOKENS, 7)),
    Field("temperature", number(0, 100, 0.7)),
    Field("top_p", number(0, 1, 0.5)),
    Field("stream", flag()),
    Field("text", RESPONSE_FORMAT),
    Field("tools", shaped(array(OBJECT, maxItems=MAX_TOOLS), [{"type": "function", "name": "f"}],
                          list, f"give a list of at most {MAX_TOOLS} tools")),
    Field("tool_choice", shaped({"anyOf": [{"enum": ["auto", "none", "required"]}, OBJECT]},
                                "required")),
    Field("parallel_tool_calls", flag(False)),
    Field("reasoning", shaped(OBJECT, {"effort": "low"}, dict, "give an object")),
    Field("user", text(example="me")),
    Field("metadata", shaped(OBJECT, {"a": "b"}, dict, "give an object")),
    *labels("safety_identifier", "prompt_cache_key"),
    *refused("store", off=(False,), refusal="nothing is kept here: give false, or leave it out"),
    *refused("background", off=(False,)),
    *refused("truncation", off=("disabled",)),
    *refused("service_tier", off=("auto", "default")),
    *refused("top_logprobs", off=(0,)),
    *refused("prompt_cache_retention", off=("in_memory", "in-memory")),
    *refused("stream_options", off=({"include_obfuscation": False},)),
    *refused("previous_response_id", "conversation", refusal="nothing is kept here: send the"
             " conversation's items as input"),
    *refused("include", "max_tool_calls", "prompt", "context_management", "moderation", "image"),
    *refused("access_programs", "background_options", "prompt_cache_options"),
)  # fmt: skip
TOKEN_IDS = array({"type": "integer", "minimum": 0}, minItems=1)
PROMPT: Schema = {"anyOf": [TEXT, TOKEN_IDS, array({"anyOf": [TEXT, TOKEN_IDS]}, minItems=1)]}
COMPLETIONS = (
    *OPENAI,
    Field("prompt", shaped(PROMPT, "x", (str, list), "give a text, a list of texts, or token ids"),
          required=True),
    Field("logprobs", integer(0, MAX_TOP_LOGPROBS, 3)),
    Field("echo", flag()),
    *refused("suffix", "prompt_embeds"),
    *refused("add_special_tokens", off=(True,)),
)  # fmt: skip
INPUTS = Kind(lambda value: None, {}, "x")
CALL = (
    Field("inputs", INPUTS, required=True),
    Field("parameters", shaped(OBJECT, {}, dict, "give an object")),
    Field("options", shaped(OBJECT, {}, dict, "give an object")),
    Field("stream", flag()),
)
"""Our own format: what stands around `inputs`."""
OPTIONS = labels("use_cache", "wait_for_model", "use_gpu", "dont_load_model", "compression")
"""Of Hugging Face's older inference API: about loading and its cache, no answer changes."""
ADAPTER_LOADING = (
    Field("name", text(most=256, example="mood"), required=True),
    Field("src", text(example="adapters/mood"), required=True),
    # An adapter is always loaded at once, and stays until it is deleted.
    Field("preload", flag(), label=True),
    Field("pin", flag(), label=True),
)
