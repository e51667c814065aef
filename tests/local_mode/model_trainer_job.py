"""One job through the SDK's ModelTrainer; a program, for the SDK reads its settings when imported.

python model_trainer_job.py '{"image": …, "root": …, "script": …, "hosts": …, "settings": …,
    "channels": …}'
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sdk_settings import quiet_sdk


def main(plan: dict) -> None:
    root = Path(plan["root"])
    quiet_sdk(root)
    from sagemaker.train.configs import Compute, InputData, SourceCode
    from sagemaker.train.distributed import Torchrun
    from sagemaker.train.model_trainer import Mode, ModelTrainer

    (root / "container").mkdir()
    source = SourceCode(source_dir=str(root / "code"), entry_script="mine.py")
    trainer = ModelTrainer(
        training_mode=Mode.LOCAL_CONTAINER,
        training_image=plan["image"],
        source_code=source if plan["script"] else None,
        distributed=Torchrun(process_count_per_node=1) if plan["script"] else None,
        compute=Compute(instance_type="local_cpu", instance_count=plan["hosts"]),
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
