"""The network interface that hosts talk over, where resourceconfig.json names one that is not."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import replace

from sm_train.contract import Cluster

_SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface
_ANY_PORT = 9


def with_present_interface(cluster: Cluster) -> tuple[Cluster, str]:
    """The cluster with an interface that this host has, and what to say where it was replaced.

    SageMaker's SDK v3 names `ethwe` in local mode, an interface of the hosted platform.
    """
    names = [name for _, name in socket.if_nameindex()]
    if len(cluster.hosts) == 1 or cluster.interface in names:
        return cluster, ""
    interface = _interface_towards(cluster.leader, names)
    said = (
        f"resourceconfig.json network_interface_name: this host has no {cluster.interface}; "
        f"using {interface}, which leads to {cluster.leader}"
    )
    return replace(cluster, interface=interface), said


def _interface_towards(host: str, names: list[str]) -> str:
    """The one whose address this host would send from; the first real one if that is unknown."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))  # chooses a route, sends nothing
            own = probe.getsockname()[0]
        except OSError:
            own = ""
        matching = [name for name in names if _address(probe, name) == own]
    return [*matching, *(name for name in names if name != "lo"), "lo"][0]


def _address(probe: socket.socket, name: str) -> str | None:
    request = struct.pack("256s", name.encode()[:15])
    try:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
    except OSError:
        return None
    return socket.inet_ntoa(answer[20:24])
