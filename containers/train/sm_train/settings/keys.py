"""Keys that mean something elsewhere: those that have no say here, and those of other names."""

from __future__ import annotations

from sm_train.settings import trl_script

# Keys of transformers' and TRL's configs that have no say here, and why.
IGNORED = {
    **trl_script.IGNORED,
    "output_dir": "the artefact goes to /opt/ml/model and checkpoints to /opt/ml/checkpoints",
    "push_to_hub": "a training job uploads nothing",
    "hub_model_id": "a training job uploads nothing",
    "hub_token": "a training job uploads nothing",
    "hub_strategy": "a training job uploads nothing",
    "hub_private_repo": "a training job uploads nothing",
    "hub_always_push": "a training job uploads nothing",
    "hub_revision": "a training job uploads nothing",
    "local_rank": "ranks come from resourceconfig.json",
    "do_train": "a training job trains",
    "do_eval": "the validation channel decides",
    "do_predict": "the test channel decides",
    "disable_tqdm": "progress is printed as lines",
    "enable_jit_checkpoint": "SIGTERM always writes a checkpoint",
}
# Names that people carry over from older versions and other tools.
FORMER_NAMES = {
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",  # a share below 1 is a ratio there
    "max_seq_length": "max_length",
    "torch_dtype": "dtype",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "lr": "learning_rate",
    "model": "model_name_or_path",
    "model_name": "model_name_or_path",
    "model_id": "model_name_or_path",
    "lora_rank": "lora_r",
    "group_by_length": "train_sampling_strategy",
    "label_names": "labels",
    "task": "method",
    "chat_template_path": "chat_template",
    "dataset": "dataset_name",
    "use_lora": "use_peft",
}
