"""How a worker's KV travels: NCCL between GPUs; between CPUs gloo, or memory on one machine."""

from collections.abc import Callable
from dataclasses import replace

import torch

from .nccl_limits import NcclLimits
from .setup import WorkerSetup
from .transport import TransportLimits, Ways, cpu_ways, network_ways

GPU_IN_FLIGHT_MAX = 16
GPU_CHUNK_BYTES = 2 << 20


def transport_parts(
    setup: WorkerSetup, host: str, on_stuck: Callable[[str], None]
) -> tuple[Ways, TransportLimits]:
    """Ways and limits; `host` is the own address that peers can reach.

    `on_stuck` may be called once, from another thread: only a new process helps then.
    """
    if not setup.device.startswith("cuda"):
        ways = cpu_ways(host) if setup.same_host == "auto" else network_ways(host)
        return ways, TransportLimits()
    from .transport.nccl import NcclBackend

    backend = NcclBackend(torch.device(setup.device), on_stuck, setup.nccl)
    return Ways(backend, None, ""), nccl_transport_limits(setup.nccl)


def nccl_transport_limits(nccl: NcclLimits) -> TransportLimits:
    """As many pairs as there are communicators, and several messages for one launch."""
    return replace(
        TransportLimits(),
        pairs_max=nccl.pairs_per_direction,
        chunk_bytes=GPU_CHUNK_BYTES,
        in_flight_max=GPU_IN_FLIGHT_MAX,
    )
