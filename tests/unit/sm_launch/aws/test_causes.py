"""What failures say, and what the user is told."""

from __future__ import annotations

import pytest

from sm_launch.aws.causes import likely_cause


@pytest.mark.parametrize(
    ("reason", "log", "message"),
    [
        ("AlgorithmError: exit code 1", ["torch.OutOfMemoryError: CUDA out of memory."], "halve"),
        ("CapacityError: Unable to provision requested ML compute capacity.", [], "try again"),
        ("ClientError: exec format error", [], "linux/amd64"),
        ("ClientError: ping", ["CUDA driver version is insufficient"], "gpu-4-1"),
        ("The variant failed to pass the ping health check, did not pass the ping health check",
         [], "startup_timeout_seconds"),
        ("AlgorithmError", ["OSError: [Errno 28] No space left on device"], "volume_size_gb"),
        ("AlgorithmError", ["GatedRepoError: 403 Client Error"], "HF_TOKEN"),
    ],
)  # fmt: skip
def test_known_failures(reason: str, log: list[str], message: str) -> None:
    cause = likely_cause(reason, log)
    assert cause is not None
    assert message in cause.step


def test_nothing_is_made_up() -> None:
    assert likely_cause("ValueError: label 7 is unknown", ["epoch 1"]) is None
