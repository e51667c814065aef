"""Where a job's curves go besides its log: `report_to`."""

from __future__ import annotations

import importlib.util
from typing import Any

from sm_train.errors import UserError
from sm_train.settings.settings import Config

_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "comet_ml": "comet_ml", "swanlab": "swanlab"}


def reporters(given: Any) -> list[str]:
    """`report_to` as a list: TensorBoard is always among them, unless the user wants none."""
    names = [given] if isinstance(given, str) else list(given or [])
    if names == ["none"]:
        return []
    return list(dict.fromkeys([*(name for name in names if name != "none"), "tensorboard"]))


def check_reporters(config: Config) -> None:
    """Refuse a tracker whose package is not installed, before anything slow is done."""
    given = config.training.get("report_to")
    for name in reporters(given):
        package = _PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"needs the package {package}, which is not installed",
                field="report_to",
                value=given,
                fix=f"install {package} in an image of your own that is made from this one, "
                "or remove it",
            )
