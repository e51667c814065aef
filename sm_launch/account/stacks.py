"""A CloudFormation stack brought to a template, from whatever state an earlier try has left it in.

States and what each allows: CloudFormation user guide, "Stack status codes" and "Continue rolling
back an update".
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from sm_launch.errors import LaunchError

# IAM answers from many places: a new role can be unknown to SageMaker for some seconds.
PROPAGATION_SECONDS = 10.0
SECONDS_BETWEEN_LOOKS = 3.0
# These take no update: CloudFormation wants them deleted.
_DEAD = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED",
                   "REVIEW_IN_PROGRESS"})  # fmt: skip
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
_GONE = "DELETE_COMPLETE"

Document = dict[str, Any]


class StackClient:
    """One stack by its name.

    Args:
        client: of CloudFormation.
        name: of the stack.
        notify: gets what the user is told.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        notify: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._notify = notify
        self._sleep = sleep

    def metadata(self) -> Document:
        """Of the template that it was last made from; empty where there is none."""
        if self._state() is None:
            return {}
        body = self._client.get_template(StackName=self._name).get("TemplateBody") or {}
        template = json.loads(body) if isinstance(body, str) else body
        kept: Document = template.get("Metadata") or {}
        return kept

    def resources(self) -> frozenset[str]:
        """Logical names of what it has; none where it must be made anew."""
        status = self._state()
        if status is None or status in _DEAD:
            return frozenset()
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self._name)
        return frozenset(
            each["LogicalResourceId"]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each["ResourceStatus"] != _GONE
        )

    def apply(self, template: Document) -> dict[str, str]:
        """Make it or bring it up to date, and wait; its outputs.

        Raises:
            LaunchError: CloudFormation could not make it; the message holds its first reason.
        """
        self._mend()
        token = f"sm-launch-{uuid.uuid4()}"
        request = {
            "StackName": self._name,
            "TemplateBody": json.dumps(template),
            "Capabilities": ["CAPABILITY_IAM"],
            "Tags": [{"Key": "sm-launch:stack", "Value": self._name}],
            "ClientRequestToken": token,
        }
        if self._state() is None:
            self._client.create_stack(**request)
            stack = self._settled(token)
            self._sleep(PROPAGATION_SECONDS)
        else:
            stack = self._settled(token) if self._update(request) else self._describe(self._name)
        return {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}

    def _update(self, request: Document) -> bool:
        """Whether there was something to change."""
        from botocore.exceptions import ClientError

        try:
            self._client.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
            return False
        return True

    def _mend(self) -> None:
        """Bring a half-made stack to where it can be made or updated."""
        status = self._state()
        if status and status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            self._notify(f"the stack {self._name} is {status}: waiting until that has ended")
            status = self._wait(self._name)["StackStatus"]
        if status == "UPDATE_ROLLBACK_FAILED":
            self._notify(f"the stack {self._name} is {status}: its rollback is continued first")
            self._client.continue_update_rollback(StackName=self._name)
            status = self._wait(self._name)["StackStatus"]
            if status == "UPDATE_ROLLBACK_FAILED":
                raise self._failure(status, None)
        if status in _DEAD:
            self._notify(f"the stack {self._name} is {status}: it is deleted and made anew; "
                         "bucket and repositories that are there stay")  # fmt: skip
            identity = self._describe(self._name)["StackId"]
            self._client.delete_stack(StackName=self._name)
            ended = self._wait(identity)["StackStatus"]
            if ended != _GONE:
                raise self._failure(ended, None)

    def _settled(self, token: str) -> Document:
        stack = self._wait(self._name)
        if stack["StackStatus"] not in _GOOD:
            raise self._failure(stack["StackStatus"], token)
        return stack

    def _wait(self, name: str) -> Document:
        """The stack once it no longer changes; by its id also one that is deleted by then."""
        while True:
            try:
                stack = self._describe(name)
            except self._client.exceptions.ClientError as error:
                if "does not exist" in str(error):
                    return {"StackStatus": _GONE}
                raise
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return stack
            self._sleep(SECONDS_BETWEEN_LOOKS)

    def _state(self) -> str | None:
        """Its status; None where there is no such stack."""
        try:
            status: str = self._describe(self._name)["StackStatus"]
        except self._client.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if status == _GONE else status

    def _describe(self, name: str) -> Document:
        stack: Document = self._client.describe_stacks(StackName=name)["Stacks"][0]
        return stack

    def _failure(self, status: str, token: str | None) -> LaunchError:
        """With the first reason that CloudFormation gives for this try."""
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=self._name)
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for page in pages
            for event in page["StackEvents"]
            if event.get("ResourceStatus", "").endswith("_FAILED")
            and (token is None or event.get("ClientRequestToken", token) == token)
        ]
        return LaunchError(
            f"the stack {self._name} is {status}: {reasons[-1] if reasons else 'no reason given'}",
            fix="mend that and run `sm-launch setup` again: it clears away what is half made",
        )
