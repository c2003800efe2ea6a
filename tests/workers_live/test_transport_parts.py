"""A CPU worker gets gloo; a GPU worker would get NCCL, with its limits."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from splitweave.proto.ids import WorkerId
from splitweave.proto.views import Role
from splitweave.workers.live.nccl_limits import NcclLimits
from splitweave.workers.live.setup import WorkerLimits, WorkerSetup
from splitweave.workers.live.transport import TransportLimits, Way
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.memory import host_id
from splitweave.workers.live.transport_parts import nccl_transport_limits, transport_parts

NCCL = NcclLimits(pairs_max=6)


def setup_of(device: str) -> WorkerSetup:
    return WorkerSetup(
        namespace="n", worker_id=WorkerId("w"), peers=(), pool="p", role=Role.MIXED,
        limits=WorkerLimits(), model_path="demo", context_tokens_max=0, device=device,
        threads=1, blocks=8, host_blocks=0, block_tokens=16, record="", same_host="auto", nccl=NCCL,
    )  # fmt: skip


def test_a_cpu_worker_gets_gloo() -> None:
    told: list[Any] = []
    ways, limits = transport_parts(setup_of("cpu"), "127.0.0.1", told.append)
    assert isinstance(ways.backend(Way.NETWORK), GlooBackend)
    assert (limits, told) == (TransportLimits(), [])


def test_workers_of_one_machine_share_memory_unless_the_config_says_network() -> None:
    near, _ = transport_parts(setup_of("cpu"), "127.0.0.1", print)
    far, _ = transport_parts(replace(setup_of("cpu"), same_host="network"), "127.0.0.1", print)
    assert near.host_id == host_id()
    assert (far.host_id, far.backend(Way.MEMORY)) == ("", None)


def test_the_transport_keeps_as_many_pairs_as_there_are_communicators() -> None:
    limits = nccl_transport_limits(NCCL)
    assert 2 * limits.pairs_max == NCCL.pairs_max
    assert 1 < limits.in_flight_max <= NCCL.group_max


@pytest.mark.skipif(torch.distributed.is_nccl_available(), reason="this torch has NCCL")
def test_a_gpu_worker_asks_for_nccl() -> None:
    with pytest.raises(RuntimeError, match="no NCCL"):
        transport_parts(setup_of("cuda:0"), "127.0.0.1", lambda reason: None)
