"""The settings that every method shares: what they are called, mean, and are by default.

Fields of the method's own TRL or transformers config come on top (see config.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
class JobArguments:
    """Keys that every method understands, apart from TRL's and transformers' own."""

    method: str = field(default="", metadata={"help": "What to train: the name of a method."})
    config: str | None = field(
        default=None,
        metadata={
            "help": "A TRL-style YAML config: its text, or the name of a file in the `config` "
            "channel. Hyperparameters win over it."
        },
    )
    columns: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": 'Renames data columns before use: {"name in the data": "name the method '
            'wants"}, for example {"question": "prompt"}.'
        },
    )
    prompt_template: str | None = field(
        default=None,
        metadata={
            "help": "Builds the prompt from columns: text with their names in braces, such as "
            "'{instruction}\n\n{input}'. An empty cell is empty text."
        },
    )
    dataset_weights: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "How often each of several data sets is drawn from: {name: weight}, such as "
            '{"code": 0.3, "chat": 0.7} for the channels train-code and train-chat. Default: all '
            "rows of all, once an epoch."
        },
    )
    stopping_strategy: (
        Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"] | None
    ) = field(
        default=None,
        metadata={
            "help": "When an epoch with dataset_weights ends, as in datasets.interleave_datasets: "
            "first_exhausted (the default; no row comes twice, some never), all_exhausted (each "
            "row at least once, those of small data sets again), or "
            "all_exhausted_without_replacement (each row once; the weights only order them)."
        },
    )
    dataset_columns: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "As `columns`, for one of several data sets: {name: {column: new name}}. What "
            "it says goes before `columns`."
        },
    )
    dataset_prompt_templates: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "As `prompt_template`, for one of several data sets: {name: template}; null "
            "for one that has none."
        },
    )
    streaming: bool | None = field(
        default=None,
        metadata={
            "help": "Read the train rows while training instead of before it, for data larger than "
            "memory: JSON Lines, Parquet and text. Without max_steps they are read once to count "
            "them."
        },
    )
    shuffle_buffer_size: int | None = field(
        default=None,
        metadata={
            "help": "From how many rows of a stream the next one is drawn: all of them are in "
            "memory. 0 keeps the order of the files. Default: 1000, as in datasets."
        },
    )
    export: Literal["merged", "adapter", "both"] = field(
        default="merged",
        metadata={
            "help": "What a LoRA job leaves as the model: merged weights, the adapter alone, or "
            "merged weights with the adapter under adapter/."
        },
    )
    max_rejected_share: float = field(
        default=0.1,
        metadata={
            "help": "Share of bad rows (0 to 1) over which the job fails. Below it they are set "
            "aside in output/data/rejected.jsonl with reasons."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after this many evaluations without a better metric_for_best_model. "
            "Needs a validation channel."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "A gain smaller than this does not count as better."}
    )
    num_processes: int | None = field(
        default=None,
        metadata={"help": "Training processes a host. Default: one a GPU, one without GPUs."},
    )
    chat_template: str | None = field(
        default=None,
        metadata={
            "help": "Chat template instead of the base model's: chatml, the name of one that TRL "
            "ships (llama3, qwen3, …), a file NAME.jinja of a channel, or its text."
        },
    )
    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "How processes share the model, as for TRL's command line: fsdp2, zero2, "
            "zero3, multi_gpu, or a YAML file of the `config` channel. Needs two processes."
        },
    )
    parallelism: Literal["ddp", "fsdp", "zero2", "zero3"] | None = field(
        default=None,
        metadata={
            "help": "How several processes share the model: ddp (a copy each, the default), fsdp "
            "(FSDP2), zero2 or zero3 (DeepSpeed)."
        },
    )


@dataclass(frozen=True)
class ModelArguments:
    """TRL's ModelConfig by its names, with defaults that suit the hardware instead of fp32."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Hub id or path of the base model. Default: the `model` channel."},
    )
    model_revision: str = field(
        default="main", metadata={"help": "Branch, tag or commit of a Hub model."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run model code that ships with the checkpoint."}
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        default=None,
        metadata={
            "help": "Weights' type. Default: bfloat16 for LoRA on a GPU that has it, else float32."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "Attention: eager, sdpa, flash_attention_2, … Default: the best there."},
    )
    model_init_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "More arguments for from_pretrained, such as dropout probabilities."},
    )
    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter."})
    lora_r: int = field(default=16, metadata={"help": "LoRA rank."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA scale."})
    lora_dropout: float = field(default=0.05, metadata={"help": "LoRA dropout."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules to adapt. Default: all linear layers."}
    )
    lora_target_parameters: list[str] | None = field(
        default=None, metadata={"help": "Parameters to adapt, for example of experts."}
    )
    lora_modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules trained in full beside the adapter."}
    )
    lora_task_type: str | None = field(
        default=None, metadata={"help": "PEFT task type. Default: the method's own."}
    )
    use_rslora: bool = field(default=False, metadata={"help": "Rank-stabilised LoRA."})
    use_dora: bool = field(default=False, metadata={"help": "Weight-decomposed LoRA."})
    load_in_8bit: bool = field(default=False, metadata={"help": "8-bit base model (GPU, LoRA)."})
    load_in_4bit: bool = field(default=False, metadata={"help": "4-bit base model (GPU, LoRA)."})
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = field(
        default="nf4", metadata={"help": "4-bit number format."}
    )
    use_bnb_nested_quant: bool = field(default=False, metadata={"help": "Nested quantisation."})
    bnb_4bit_quant_storage: str | None = field(
        default=None, metadata={"help": "Storage type of 4-bit weights."}
    )


LORA_KEYS = (
    *(f.name for f in fields(ModelArguments) if f.name.startswith("lora_")),
    "use_rslora",
    "use_dora",
)


@dataclass(frozen=True)
class DatasetArguments:
    """TRL's ScriptArguments and DatasetMixtureConfig, for a job without a `train` channel."""

    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Data set to load where the job has no train channel: Hub id or path."},
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "Configuration of dataset_name, if it has several."}
    )
    dataset_train_split: str = field(
        default="train", metadata={"help": "Split of dataset_name to train on."}
    )
    dataset_test_split: str = field(
        default="test",
        metadata={"help": "Split of dataset_name to evaluate on while training, where it has it."},
    )
    datasets: list[dict[str, Any]] | None = field(
        default=None,
        metadata={
            "help": "Data sets to mix where the job has no train channel: path, name, data_dir, "
            "data_files, split, columns and fraction of each, as in TRL's YAML."
        },
    )
    test_split_size: float | None = field(
        default=None, metadata={"help": "Share or number of rows of `datasets` to evaluate on."}
    )

    @property
    def named(self) -> bool:
        """Whether there is anything to load."""
        return bool(self.dataset_name or self.datasets)
