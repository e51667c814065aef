"""Write access.yaml: the template of `sm-launch setup`, bucket and prefix as parameters.

    .venv/bin/python infra/generate_access.py

For teams that deploy every template through a pipeline of their own; sm_launch/account/access.py
stays the one place where the roles are defined.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sm_launch.account import access
from sm_launch.account.policies import Grants

TARGET = Path(__file__).with_name("access.yaml")
_HEAD = "# Made by infra/generate_access.py from sm_launch/account/access.py; change those.\n"
_PARAMETERS = {
    "BucketName": {"Type": "String", "Description": "Name of the bucket that is made."},
    "Prefix": {
        "Type": "String",
        "Default": "sm-launch",
        "Description": "Key prefix in the bucket; the roles reach no key outside it.",
    },
}


def render() -> str:
    """What access.yaml must hold."""
    template = access.template("${BucketName}", Grants(prefix="${Prefix}"))
    resources = {name: _resolved(value) for name, value in template["Resources"].items()}
    document = {
        "AWSTemplateFormatVersion": template["AWSTemplateFormatVersion"],
        "Description": template["Description"],
        "Parameters": _PARAMETERS,
        "Resources": resources,
        "Outputs": template["Outputs"],
    }
    return _HEAD + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=100)


class _Plain(yaml.SafeDumper):
    """Writes a value out at each place: CloudFormation knows no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _resolved(value: Any) -> Any:
    """`value`, each string that names a parameter wrapped for CloudFormation to fill in."""
    if isinstance(value, dict):
        if "Fn::Sub" in value:
            return value
        return {key: _resolved(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner) for inner in value]
    return {"Fn::Sub": value} if isinstance(value, str) and "${" in value else value


if __name__ == "__main__":
    TARGET.write_text(render())
