"""SageMaker's local mode: both real images in Docker, driven through the SDK's `LocalSession`.

The session is the process session whose `train` and `serve` are programs that run the request in a
container (`container.py`); state, stops, logs, artefacts and failure texts are therefore the same.
"""

from __future__ import annotations

from sm_launch.sessions.docker.session import DockerSession

__all__ = ["DockerSession"]
