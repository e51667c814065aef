"""One process, or several by torchrun: GPUs of this host and the hosts of resourceconfig.json."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from sm_train.contract import Cluster
from sm_train.errors import StoppedBySignalError, UserError, WorkerFailedError
from sm_train.platform.devices import gpu_count
from sm_train.platform.network import with_present_interface
from sm_train.platform.stopping import StopRequest, children
from sm_train.settings.settings import Config

RENDEZVOUS_PORT = 29500
DNS_SECONDS = 300
_LOOK_SECONDS = 0.2


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def process_count(config: Config) -> int:
    """Training processes of this host: as asked for, else one a GPU, else one.

    What trains nothing runs in one.

    Raises UserError for more processes than GPUs, which would share one and fail.
    """
    gpus = 0 if config.training.get("use_cpu") else gpu_count()
    if not config.method.trains:
        return 1
    asked = config.job.num_processes
    if asked and gpus and asked > gpus:
        raise UserError(
            f"is more than the {gpus} GPUs that this job may use",
            field="num_processes",
            value=asked,
            fix="leave it out (one process a GPU), use an instance type with more GPUs, or look "
            "at CUDA_VISIBLE_DEVICES",
        )
    return asked or max(1, gpus)


def launch_workers(cluster: Cluster, processes: int, stop: StopRequest) -> None:
    """Run the job in worker processes; a SIGTERM is passed on, a failure ends all of them.

    SIGTERM goes to the workers themselves: torchrun gives them 30 s only, the platform 120.

    Raises WorkerFailedError (the worker has written the cause), StoppedBySignalError.
    """
    if len(cluster.hosts) > 1:
        wait_for_host(cluster.leader)
    cluster, said = with_present_interface(cluster)
    if said:
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
    stop.defer()
    workers = subprocess.Popen(torchrun(cluster, processes), env=worker_environment(cluster))
    passed_on = False
    while workers.poll() is None:
        if stop.requested and not passed_on:
            passed_on = True
            for process in children(workers.pid) or [workers.pid]:
                os.kill(process, signal.SIGTERM)
        time.sleep(_LOOK_SECONDS)
    if passed_on and workers.returncode:
        raise StoppedBySignalError("stopped by SIGTERM; the workers wrote their checkpoint")
    if workers.returncode:
        raise WorkerFailedError(f"a training process ended with code {workers.returncode}")


def torchrun(cluster: Cluster, processes: int) -> list[str]:
    """The command: static ranks, the leader as the meeting point, no restarts."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(cluster.hosts)}",
        f"--node-rank={cluster.rank}",
        f"--nproc-per-node={processes}",
        f"--master-addr={'127.0.0.1' if len(cluster.hosts) == 1 else cluster.leader}",
        f"--master-port={_port(cluster)}",
        "--max-restarts=0",
        "--module",
        "sm_train.entry",
    ]


def _port(cluster: Cluster) -> int:
    """Several jobs may share a machine in local mode; several hosts must agree beforehand."""
    if len(cluster.hosts) > 1:
        return RENDEZVOUS_PORT
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def worker_environment(cluster: Cluster) -> dict[str, str]:
    """Which interface to talk over; EFA only on instance types that have it."""
    variables = dict(os.environ)
    if len(cluster.hosts) > 1:
        variables.setdefault("NCCL_SOCKET_IFNAME", cluster.interface)
        variables.setdefault("GLOO_SOCKET_IFNAME", cluster.interface)
    if cluster.instance_type.removeprefix("ml.").startswith(("p4d", "p4de", "p5", "p6")):
        variables.setdefault("FI_PROVIDER", "efa")
        variables.setdefault("FI_EFA_USE_DEVICE_RDMA", "1")
    return variables


def wait_for_host(name: str) -> None:
    """Other hosts' names appear in DNS some time after this host has started."""
    deadline = time.monotonic() + DNS_SECONDS
    while True:
        try:
            socket.gethostbyname(name)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"does not resolve after {DNS_SECONDS} s",
                    field="resourceconfig.json hosts",
                    value=name,
                    fix="check the job's VPC and its DNS settings",
                ) from None
            time.sleep(1)
