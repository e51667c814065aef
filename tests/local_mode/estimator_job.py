"""One job through SDK v2's Estimator; a program, for v2 and v3 cannot be imported together.

python estimator_job.py '{"image": …, "root": …, "settings": …, "channels": …}'
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sdk_settings import quiet_sdk

COMPOSE = '#!/bin/sh\nexec docker compose "$@"\n'


def main(plan: dict) -> None:
    root = Path(plan["root"])
    quiet_sdk(root)
    # v2 looks for a "v2" in `docker compose version`, which Debian's does not print.
    (root / "bin").mkdir()
    compose = root / "bin" / "docker-compose"
    compose.write_text(COMPOSE)
    compose.chmod(0o755)
    os.environ["PATH"] = f"{compose.parent}{os.pathsep}{os.environ['PATH']}"
    from sagemaker.estimator import Estimator
    from sagemaker.local import LocalSession

    session = LocalSession()
    session.config = {"local": {"local_code": True, "container_root": str(root)}}
    estimator = Estimator(
        image_uri=plan["image"],
        role="arn:aws:iam::000000000000:role/sm-launch-local",
        instance_count=1,
        instance_type="local",
        hyperparameters=plan["settings"],
        output_path=(root / "out").as_uri(),
        sagemaker_session=session,
    )
    (root / "out").mkdir()
    estimator.fit({name: Path(path).as_uri() for name, path in plan["channels"].items()})
    print("artefact", estimator.model_data)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
