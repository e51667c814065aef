"""The platform's config files: hosts, ranks, input modes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sm_train.contract import Paths, check_input_modes, read_cluster
from sm_train.errors import UserError


def write(paths: Paths, name: str, value: Any) -> None:
    (paths.config / name).write_text(json.dumps(value))


def test_rank_is_the_place_among_the_sorted_hosts(paths: Paths) -> None:
    hosts = ["algo-2", "algo-1", "algo-3"]
    write(paths, "resourceconfig.json", {"current_host": "algo-2", "hosts": hosts})
    cluster = read_cluster(paths)
    assert (cluster.rank, cluster.leader, cluster.interface) == (1, "algo-1", "eth0")


def test_pipe_mode_is_refused(paths: Paths) -> None:
    write(paths, "inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    with pytest.raises(UserError, match="use File or FastFile"):
        check_input_modes(paths)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
CLUSTERS = st.fixed_dictionaries({}, optional={"hosts": JSON, "current_host": JSON})


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(JSON | CLUSTERS, JSON)
def test_any_platform_file_is_read_or_refused(paths: Paths, cluster: Any, inputs: Any) -> None:
    write(paths, "resourceconfig.json", cluster)
    write(paths, "inputdataconfig.json", inputs)
    for read in (read_cluster, check_input_modes):
        try:
            read(paths)
        except UserError as error:
            assert str(error)
