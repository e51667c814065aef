"""A model artefact on this machine, served in a process for as long as it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sm_launch.aws.clients import raw_data_clients
from sm_launch.hosting import deployment, endpoints
from sm_launch.job import naming
from sm_launch.job.config import Endpoint
from sm_launch.progress import progress
from sm_launch.sessions import open_session
from sm_launch.sessions.protocol import Session
from sm_launch.target.context import JobContext
from sm_launch.target.local_inputs import with_local_inputs


@contextmanager
def served(context: JobContext, model_data: str) -> Iterator[tuple[Session, str]]:
    """Session and name of an endpoint that serves `model_data` and is gone afterwards.

    Args:
        context: its job gives the server's environment.
        model_data: model.tar.gz, a model directory, or a file://, s3:// or hf:// URI.

    Raises:
        UserInputError: there is no such file or directory.
        LaunchError: the server does not come up.
    """
    config = context.config
    store = partial(raw_data_clients(config.aws), "s3")
    session = with_local_inputs(open_session("process"), store, context.notify)
    # What scaling, variants or networks the real endpoint has is of no use here.
    bare = config.model_copy(update={"endpoint": Endpoint(environment=config.endpoint.environment)})
    name = naming.unique_name(config.name, suffix="evaluate")
    planned = deployment.build(
        bare,
        model_data=endpoints.model_data_uri(model_data),
        image=naming.LOCAL_SERVING_IMAGE,
        role=naming.LOCAL_ROLE,
        name=name,
    )
    deployment.send(session, planned)
    try:
        with progress("Starting the server"):
            endpoints.wait(session, name)
        yield session, name
    finally:
        endpoints.delete(session, name)
