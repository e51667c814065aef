"""Runs inside an image: import all that is installed, print what failed as JSON."""

import importlib
import json
import os
import pkgutil
import sys
from importlib.metadata import packages_distributions

import setuptools  # noqa: F401 - first: it replaces what Debian has left of distutils

failed: dict[str, str] = {}
ours = 0


def bring(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"


sys.argv = ["train"]  # some packages read it when imported
os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # MLflow brings GitPython, and does without git
names = (name for name in packages_distributions() if name.isidentifier() and name[0] != "_")
top = sorted(names)
for each in top:
    bring(each)
for package in {"sm_train", "sm_serve"} & set(top):
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            ours += 1
            bring(module.name)
print(json.dumps({"failed": failed, "ours": ours, "top": len(top)}))
