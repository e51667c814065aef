"""Wall time of a text-classification job against a plain transformers Trainer script.

Both fine-tune the same base model on the same generated sentences with the same settings (ours also
batches texts of like length, its default). Each is a process of its own, imports included:

    python benchmarks/training_classification.py --base-model PATH [--rows 2000] [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOOD = [
    "superb",
    "moving",
    "witty",
    "delightful",
    "gripping",
    "charming",
    "brilliant",
    "warm",
    "fresh",
    "clever",
]
BAD = [
    "dull",
    "tedious",
    "clumsy",
    "lifeless",
    "awful",
    "bland",
    "shallow",
    "tiresome",
    "messy",
    "hollow",
]
NOUNS = [
    "plot",
    "cast",
    "script",
    "pacing",
    "camera",
    "music",
    "ending",
    "dialogue",
    "premise",
    "humour",
]
FILL = ["and", "in", "the", "end", "of", "this", "rather", "long", "story", "one", "finds", "that"]

PLAIN_SCRIPT = """
import json, sys
from datasets import load_dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, Trainer,
                          DataCollatorWithPadding, TrainingArguments)
base, data, out, epochs = sys.argv[1:5]
files = {s: f"{data}/{s}/data.jsonl" for s in ("train", "validation", "test")}
rows = load_dataset("json", data_files=files)
labels = sorted(set(rows["train"]["label"]))
tokenizer = AutoTokenizer.from_pretrained(base)
def encode(batch):
    tokens = tokenizer(batch["text"], truncation=True, max_length=256)
    return {**tokens, "labels": [labels.index(x) for x in batch["label"]]}
rows = rows.map(encode, batched=True, remove_columns=["text", "label"])
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
args = TrainingArguments(out, num_train_epochs=float(epochs), learning_rate=5e-5,
    per_device_train_batch_size=16, per_device_eval_batch_size=64, warmup_steps=0.06,
    weight_decay=0.01, eval_strategy="epoch", save_strategy="epoch", save_total_limit=2,
    load_best_model_at_end=True, logging_steps=10, report_to="none",
    dataloader_pin_memory=False, disable_tqdm=True)
def score(p):
    return {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())}
trainer = Trainer(model, args, train_dataset=rows["train"], eval_dataset=rows["validation"],
    data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=score,
    processing_class=tokenizer)
trainer.train()
print(json.dumps(trainer.evaluate(rows["test"], metric_key_prefix="test")))
trainer.save_model(out + "/model")
"""


def sentence(chance: random.Random, good: bool) -> str:
    """An opinion of 5 to 50 words; one clause in eight contradicts it."""
    clauses = []
    for _ in range(chance.randint(1, 4)):
        words = GOOD if good is (chance.random() > 0.125) else BAD
        filler = " ".join(chance.choices(FILL, k=chance.randint(0, 8)))
        clauses.append(f"the {chance.choice(NOUNS)} is {chance.choice(words)} {filler}".strip())
    return ", ".join(clauses)


def write_channels(folder: Path, rows: int) -> None:
    chance = random.Random(7)
    for split, count in (("train", rows), ("validation", rows // 8), ("test", rows // 8)):
        (folder / split).mkdir(parents=True)
        lines = [
            {
                "text": sentence(chance, i % 2 == 0),
                "label": "positive" if i % 2 == 0 else "negative",
            }
            for i in range(count)
        ]
        (folder / split / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))


def timed(command: list[str], cwd: Path, **environment: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        cwd=cwd,
        # Waiting for the Hub is not what is measured, and only the plain script would ask it.
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


def run_ours(work: Path, base: str, epochs: float) -> tuple[float, float]:
    config = work / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    values = {
        "method": "text-classification",
        "model_name_or_path": base,
        "num_train_epochs": str(epochs),
    }
    (config / "hyperparameters.json").write_text(json.dumps(values))
    (config / "inputdataconfig.json").write_text('{"train": {}, "validation": {}, "test": {}}')
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    train = str(Path(sys.executable).with_name("train"))
    module = "sm_train.entry:main"
    settings = {"SAGEMAKER_BASE_DIR": str(work), "SAGEMAKER_TRAINING_MODULE": module}
    seconds = timed([train], work, **settings)
    results = json.loads((work / "model" / "eval_results.json").read_text())
    return seconds, results["test_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-model", required=True, help="directory of a pretrained encoder")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_channels(work / "input" / "data", options.rows)
        (work / "plain.py").write_text(PLAIN_SCRIPT)
        base, data = str(Path(options.base_model).resolve()), str(work / "input" / "data")
        arguments = [base, data, str(work / "plain"), str(options.epochs)]
        plain = timed([sys.executable, str(work / "plain.py"), *arguments], work)
        ours, accuracy = run_ours(work, base, options.epochs)
    result = {
        "rows": options.rows,
        "epochs": options.epochs,
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "plain_seconds": round(plain, 1),
        "ours_seconds": round(ours, 1),
        "ratio": round(ours / plain, 3),
        "ours_test_accuracy": accuracy,
    }
    target = Path(__file__).parent / "results" / "training_classification.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
