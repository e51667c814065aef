"""One job through the SDK's ModelTrainer; a program, for the SDK reads its settings when imported.

python model_trainer_job.py '{"image": …, "root": …, "script": …, "settings": …, "channels": …}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml


def main(plan: dict) -> None:
    root = Path(plan["root"])
    quiet = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
    (root / "sagemaker.yaml").write_text(yaml.safe_dump({"SchemaVersion": "1.0", **quiet}))
    for name in ("USER", "ADMIN"):
        os.environ[f"SAGEMAKER_{name}_CONFIG_OVERRIDE"] = str(root / "sagemaker.yaml")
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    from sagemaker.train.configs import Compute, InputData, SourceCode
    from sagemaker.train.model_trainer import Mode, ModelTrainer

    (root / "container").mkdir()
    source = SourceCode(source_dir=str(root / "code"), entry_script="mine.py")
    trainer = ModelTrainer(
        training_mode=Mode.LOCAL_CONTAINER,
        training_image=plan["image"],
        source_code=source if plan["script"] else None,
        compute=Compute(instance_type="local_cpu", instance_count=1),
        hyperparameters=plan["settings"],
        base_job_name="trainer",
        local_container_root=str(root / "container"),
        role="arn:aws:iam::000000000000:role/sm-launch-local",
    )
    channels = plan["channels"].items()
    try:
        trainer.train([InputData(channel_name=k, data_source=v) for k, v in channels], wait=True)
    finally:  # it leaves its containers and their network behind
        compose = root / "container" / "docker-compose.yaml"
        subprocess.run(["docker", "compose", "-f", str(compose), "down"], check=False)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
