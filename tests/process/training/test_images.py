"""Rows with images: trained as TRL trains them, exported so that they can be asked about images."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from seeing_models import as_png, drawn, noise, save_seeing

from sm_train.errors import UserError

pytestmark = pytest.mark.slow

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token }}{% endgeneration %}{% else %}"
    "{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
STEPS = {
    "max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": 0.01, "logging_steps": 1,
    "report_to": "none", "bf16": False, "lr_scheduler_type": "constant", "warmup_steps": 0,
    "save_strategy": "no", "eval_strategy": "no",
}  # fmt: skip
LORA = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, word_tokenizer: Callable[[Path], Any]) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    return save_seeing(folder, word_tokenizer(folder), CHAT)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of images, of two sizes and one gray."""
    folder = tmp_path_factory.mktemp("pictures")
    made = [noise(0), noise(1, (40, 20)), noise(2).convert("L"), drawn("red")]
    for number, picture in enumerate(made):
        (folder / f"{number}.png").write_bytes(as_png(picture))
    return sorted(map(str, folder.iterdir()))


def user(text: str, *images: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def assistant(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


PLACE = {"type": "image"}
MESSAGES: Rows = [{"messages": user("w1 w2", PLACE) + assistant(t)} for t in ("good", "bad")]
MESSAGES += [{"messages": user("w3", PLACE, PLACE) + assistant("fine w4")}]
ANSWERED: Rows = [
    {"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in MESSAGES
]
COMPARED: Rows = [
    {"prompt": row["messages"][:1], "chosen": row["messages"][1:], "rejected": assistant("dull w9")}
    for row in MESSAGES
]


def with_images(rows: Rows, pictures: list[str]) -> Rows:
    """Each row with as many images as it has places, the first rows' and the last one's apart."""
    counts = [1, 1, 2]
    return [
        {**row, "images": pictures[at : at + count]}
        for at, (row, count) in enumerate(zip(rows, counts, strict=True))
    ]


def job_of(
    new_job: Callable[..., Any],
    settings: dict[str, Any],
    rows: Rows,
    *,
    test: Rows | None = None,
    **models: Path,
) -> Any:
    """A job whose channels hold their images in a folder of their own."""
    channels = {"train": rows} | ({} if test is None else {"test": test})
    made = new_job({**STEPS, **settings}, **channels, **models)
    for name, given in channels.items():
        folder = made.path / "input" / "data" / name
        (folder / "images").mkdir()
        for row in given:
            for path in row["images"]:
                (folder / "images" / Path(path).name).write_bytes(Path(path).read_bytes())
        named = [
            {**row, "images": [f"images/{Path(path).name}" for path in row["images"]]}
            for row in given
        ]
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, named)))
    return made


def losses_of_trl(
    kind: str, settings: dict[str, Any], rows: Rows, model: Path, folder: Path
) -> list[float]:
    """What TRL's own trainer makes of the same rows, with the images decoded beforehand."""
    import trl
    from datasets import Dataset, Image, List
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor

    settings = {**STEPS, **settings}
    lora = None
    if settings.pop("use_peft", False):
        lora = LoraConfig(
            r=settings.pop("lora_r"),
            lora_alpha=settings.pop("lora_alpha"),
            lora_dropout=settings.pop("lora_dropout"),
            bias="none",
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    config = getattr(trl, f"{kind}Config")(
        str(folder), use_cpu=True, gradient_checkpointing=False, **settings
    )
    dataset = Dataset.from_list(rows).cast_column("images", List(Image(mode="RGB")))
    trainer = getattr(trl, f"{kind}Trainer")(
        AutoModelForImageTextToText.from_pretrained(model, dtype="float32"),
        args=config,
        train_dataset=dataset,
        processing_class=AutoProcessor.from_pretrained(model),
        peft_config=lora,
    )
    trainer.train()
    return [event["loss"] for event in trainer.state.log_history if "loss" in event]


@pytest.mark.parametrize(
    ("rows", "settings"), [(MESSAGES, {"assistant_only_loss": True}), (ANSWERED, {})]
)
def test_sft_learns_what_trl_learns(
    rows: Rows,
    settings: dict[str, Any],
    new_job: Callable[..., Any],
    seeing: Path,
    pictures: list[str],
    tmp_path: Path,
) -> None:
    rows = with_images(rows, pictures)
    job = job_of(new_job, {"method": "sft", **settings}, rows, model=seeing)
    job.train_here()
    expected = losses_of_trl("SFT", settings, rows, seeing, tmp_path / "trl")
    assert list(job.losses.values()) == pytest.approx(expected, rel=1e-4)


def test_tokens_of_images_are_not_learnt_and_not_cut(seeing: Path, pictures: list[str]) -> None:
    from transformers import AutoProcessor

    from sm_train.config import parse_config
    from sm_train.modelling.images import image_token_ids
    from sm_train.modelling.sequences import row_tokens

    processor = AutoProcessor.from_pretrained(seeing)
    of_images = image_token_ids(processor)
    row = with_images(MESSAGES, pictures)[2]
    (whole,) = row_tokens(row, parse_config({"method": "sft"}), processor)
    silent = [token for token, learnt in zip(whole.ids, whole.learnt, strict=True) if not learnt]
    assert len(silent) == 2 * (4 + 3)
    assert set(silent) <= of_images
    ends = max(place for place, token in enumerate(whole.ids) if token in of_images) + 1
    short = parse_config({"method": "sft", "max_length": ends})
    (cut,) = row_tokens(row, short, processor)
    assert cut.ids == whole.ids[:ends]
    shorter = parse_config({"method": "sft", "max_length": ends - 1})
    with pytest.raises(ValueError, match=f"images do not fit into max_length {ends - 1}"):
        row_tokens(row, shorter, processor)
    broken = Path(pictures[0]).with_name("broken.png")
    broken.write_bytes(Path(pictures[0]).read_bytes()[:400])
    with pytest.raises(ValueError, match="processor does not take it: image file is truncated"):
        row_tokens({**row, "images": [str(broken)] * 2}, short, processor)


def test_a_base_model_of_text_alone_is_refused(
    new_job: Callable[..., Any], decoder: Path, pictures: list[str]
) -> None:
    job = job_of(new_job, {"method": "sft"}, with_images(MESSAGES, pictures), model=decoder)
    with pytest.raises(UserError, match=r"takes text alone .* and the rows have images"):
        job.train_here()


def test_a_processor_of_videos_is_refused_before_torch_is_imported(
    new_job: Callable[..., Any], seeing: Path, pictures: list[str], tmp_path: Path
) -> None:
    if find_spec("torchvision"):
        pytest.skip("torchvision is installed: such a model trains here")
    base = tmp_path / "qwen"
    base.mkdir()
    for path in seeing.iterdir():
        (base / path.name).symlink_to(path)
    (base / "config.json").unlink()
    config = json.loads((seeing / "config.json").read_text()) | {"model_type": "qwen2_vl"}
    (base / "config.json").write_text(json.dumps(config))
    job = job_of(new_job, {"method": "sft"}, with_images(MESSAGES, pictures), model=base)
    code, output = job.train()
    assert code == 1
    assert "torchvision, as every qwen2_vl does" in job.failure
    assert "versions: " not in output


def test_an_adapter_of_sft_goes_on_to_dpo_and_the_artefact_sees(
    session_job: Callable[..., Any], seeing: Path, pictures: list[str], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    taught = job_of(
        session_job,
        {"method": "sft", **LORA, "export": "adapter"},
        with_images(ANSWERED, pictures),
        model=seeing,
        test=with_images(ANSWERED, pictures),
    )
    taught.train_here()
    assert taught.results["test_loss"] > 0
    rows = with_images(COMPARED, pictures)
    chained = {"model": taught.model, "base": seeing}
    compared = job_of(session_job, {"method": "dpo", **LORA}, rows, **chained)
    compared.train_here()
    (merged,) = (compared.path / "scratch").glob("merged-*")
    expected = losses_of_trl("DPO", LORA, rows, merged, tmp_path / "trl")
    assert list(compared.losses.values()) == pytest.approx(expected, rel=1e-4)

    processor = AutoProcessor.from_pretrained(compared.model)
    model = AutoModelForImageTextToText.from_pretrained(compared.model)
    seen = []
    for colour in ("red", "blue"):
        part = {"type": "image", "image": drawn(colour)}
        inputs = processor.apply_chat_template(
            user("w1", part), add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            seen.append(model(**inputs).logits[0, -1])
    assert not torch.allclose(*seen)
