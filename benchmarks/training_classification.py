"""Wall time of a text-classification job against a plain transformers Trainer script.

Both fine-tune the same base model on the same generated sentences with the same settings (ours also
batches texts of like length, its default). Each is a process of its own, imports included, in turn
(see harness.py); the accuracy of both on the test rows stands beside the time. `usual_malloc` is
ours without the allocator's setting that the image and the process target have:

    python benchmarks/training_classification.py --base-model PATH [--rows 2000] [--epochs 3]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import begin, in_turn, parser, ratio, spreads, write

from sm_launch.sessions.process.environment import KEPT_MEMORY

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
        adjectives = GOOD if good is (chance.random() > 0.125) else BAD
        filler = " ".join(chance.choices(FILL, k=chance.randint(0, 8)))
        clauses.append(
            f"the {chance.choice(NOUNS)} is {chance.choice(adjectives)} {filler}".strip()
        )
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


def timed(command: list[str], cwd: Path, **environment: str) -> tuple[float, str]:
    """Seconds of a command, and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        check=True,
        text=True,
        cwd=cwd,
        # Waiting for the Hub is not what is measured, and only the plain script would ask it.
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun, done.stdout


def run_plain(work: Path, base: str, epochs: float) -> dict[str, float]:
    out = tempfile.mkdtemp(dir=work)
    arguments = [base, str(work / "input" / "data"), out, str(epochs)]
    seconds, printed = timed([sys.executable, str(work / "plain.py"), *arguments], work)
    scores = json.loads(printed.strip().splitlines()[-1])
    return {"seconds": seconds, "test_accuracy": scores["test_accuracy"]}


def run_ours(work: Path, base: str, epochs: float, tunables: str) -> dict[str, float]:
    for folder in ("model", "output", "checkpoints"):  # nothing of an earlier round is found
        shutil.rmtree(work / folder, ignore_errors=True)
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
    settings = {
        "SAGEMAKER_BASE_DIR": str(work),
        "SAGEMAKER_TRAINING_MODULE": module,
        "GLIBC_TUNABLES": tunables,
    }
    seconds, _ = timed([train], work, **settings)
    results = json.loads((work / "model" / "eval_results.json").read_text())
    return {"seconds": seconds, "test_accuracy": results["test_accuracy"]}


def main() -> None:
    made = parser(__doc__, "training_classification")
    made.add_argument("--base-model", required=True, help="directory of a pretrained encoder")
    made.add_argument("--rows", type=int, default=2000)
    made.add_argument("--epochs", type=float, default=3)
    options = made.parse_args()
    machine = begin(options)
    rows, epochs = (64, 1.0) if options.quick else (options.rows, options.epochs)
    base = str(Path(options.base_model).resolve())
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_channels(work / "input" / "data", rows)
        (work / "plain.py").write_text(PLAIN_SCRIPT)
        outcomes = in_turn(
            {
                "plain": lambda: run_plain(work, base, epochs),
                "ours": lambda: run_ours(work, base, epochs, KEPT_MEMORY),
                "usual_malloc": lambda: run_ours(work, base, epochs, ""),
            },
            options.rounds,
        )
    seconds = {side: [run["seconds"] for run in runs] for side, runs in outcomes.items()}
    write(
        options.output,
        {
            "machine": machine,
            "rows": rows,
            "epochs": epochs,
            **{side: spreads(runs) for side, runs in outcomes.items()},
            "seconds_ratio": ratio(seconds["ours"], seconds["plain"]),
            "kept_memory_ratio": ratio(seconds["ours"], seconds["usual_malloc"]),
        },
    )


if __name__ == "__main__":
    main()
