"""Text that goes on from a prompt or a conversation."""

from __future__ import annotations

from sm_serve.protocol import Task
from sm_serve.schemas.field_table import GENERATION
from sm_serve.tasks.declaration import Declaration

TASK = Declaration(
    task=Task.TEXT_GENERATION,
    model_class="AutoModelForCausalLM",
    architectures=(
        "ForCausalLM", "LMHeadModel", "ForConditionalGeneration",
        "MTModel",  # MarianMTModel: translation
        "EncoderDecoderModel",
    ),
    aliases=(
        "text2text-generation", "summarization", "translation", "conversational",
    ),
    adapter_types=("CAUSAL_LM", "SEQ_2_SEQ_LM"),
    headed=False,
    parameters=GENERATION,
)  # fmt: skip
