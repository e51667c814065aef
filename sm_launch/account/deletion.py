"""Endpoints taken away with all that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sm_launch.aws.errors import SuppressMissing
from sm_launch.errors import LaunchError
from sm_launch.hosting import endpoints
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext


@dataclass(frozen=True)
class Deleted:
    """What became of the endpoints of some names.

    Attributes:
        deleted: what is gone, a line each.
        left: what stays and why, a line each.
        missing: names of which there is no endpoint.
    """

    deleted: list[str]
    left: list[str]
    missing: list[str]

    def require_all(self, where: str) -> None:
        """Raise LaunchError where there was no endpoint of a name at `where`."""
        if self.missing:
            raise LaunchError(
                f"there is no endpoint {', '.join(self.missing)} ({where}): nothing to delete",
                fix="check the name with `sm-launch list`; --target and --region look elsewhere",
            )


def delete(
    context: JobContext,
    names: Sequence[str] = (),
    *,
    adopt: bool = False,
    confirm: Callable[[list[str]], None] = lambda present: None,
    on_deletion: Callable[[endpoints.Deletion], None] = lambda deletion: None,
) -> Deleted:
    """Delete endpoints, each with its configuration and models.

    Args:
        context: where they are.
        names: of endpoints; default: job.yaml's.
        adopt: delete also what is not this job's.
        confirm: gets the names of those that are there, and raises where they are to stay.
        on_deletion: gets what became of each.

    Raises:
        LaunchError: one is somebody else's; nothing is deleted then.
    """
    wanted = names or (context.config.endpoint_name,)
    missing = [name for name in wanted if _is_gone(context.session, name)]
    present = [name for name in wanted if name not in missing]
    for name in present:  # a foreign one is refused before anything goes
        endpoints.require_own(context, name, adopt=adopt)
    if present:
        confirm(present)
    result = Deleted([], [], missing)
    for name in present:
        deletion = _delete(context, name, adopt=adopt)
        result.deleted.extend(deletion.done)
        result.left.extend(deletion.left)
        on_deletion(deletion)
    return result


def _is_gone(session: Session, name: str) -> bool:
    with SuppressMissing():
        session.describe_endpoint(EndpointName=name)
        return False
    return True


def _delete(context: JobContext, name: str, *, adopt: bool) -> endpoints.Deletion:
    if not context.on_aws:
        return endpoints.delete(context.session, name, adopt=adopt)
    from sm_launch.hosting import autoscaling
    from sm_launch.monitoring import alarms

    scaling = list(autoscaling.remove(name, context.region))
    deletion = endpoints.delete(context.session, name, adopt=adopt)
    gone, left = alarms.try_remove(name, context.region)
    return endpoints.Deletion(
        [*scaling, *deletion.done, *gone], [*deletion.left, *([left] if left else [])]
    )
