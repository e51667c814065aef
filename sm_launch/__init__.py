"""Fine-tune and serve models on SageMaker, in local Docker or in plain processes.

The package is the launcher: it prepares data, builds the real SageMaker requests and hands them to
a session (AWS, Docker or processes). Sub-modules are imported on demand, so that the command line
answers at once.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sm-launch")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
