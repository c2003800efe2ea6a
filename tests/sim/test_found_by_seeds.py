"""What seeds have shown of the cores, each in its shortest form."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from splitweave.proto.cluster_events import ClusterStarted, WorkerRegistered
from splitweave.proto.effects import CloseLease, ToWorker
from splitweave.proto.ids import GatewayId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import MoveKind
from splitweave.proto.requests import Request
from splitweave.proto.views import Role, Speed, WorkerInfo
from splitweave.proto.worker_events import (
    AbortAcked,
    LeaseAsked,
    MoveAborted,
    PeerLost,
    WorkerStarted,
)
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MOVE = MoveId("m")


def _key(name: str, incarnation: int = 1) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(incarnation))


def _info(key: WorkerKey) -> WorkerInfo:
    return WorkerInfo(
        key=key,
        role=Role.DECODE,
        pool="p",
        node="n",
        pid=1,
        host="h",
        port=1,
        blocks_total=32,
        block_tokens=4,
        block_bytes=64,
        context_tokens_max=100,
        speed=Speed(iteration_ns=1e6, token_ns=1e4),
    )


def _builder() -> CoreBuilder:
    return CoreBuilder(load_scenario(EXAMPLES / "faults.toml"))


def _lease(source: WorkerKey) -> LeaseAsked:
    request = Request(
        request_id=RequestId("r"), gateway_id=GatewayId("g"), token_ids=(1,) * 9, max_tokens=5
    )
    return LeaseAsked(
        move_id=MOVE,
        lease=1,
        kind=MoveKind.HANDOFF,
        source=source,
        request=request,
        hashes=(),
        blocks=3,
    )


def _told(effects: list[Any], key: WorkerKey) -> list[Any]:
    return [e.event for e in effects if isinstance(e, ToWorker) and e.key == key]


def test_a_fenced_peer_that_lives_gets_its_abort_acknowledged() -> None:
    """A controller gave a worker up, was restarted, and took it back; its peers had not."""
    core, peer = _builder().worker(_info(_key("a"))), _key("b")
    core.step(WorkerStarted(), 0)
    core.step(PeerLost(key=peer), 1)
    aborted = MoveAborted(move_id=MOVE, lease=1, peer=peer, reason="the lease is closed")
    assert _told(core.step(aborted, 2), peer) == [AbortAcked(move_id=MOVE, lease=1, peer=_key("a"))]


def test_the_death_of_a_later_life_ends_the_leases_of_an_earlier_one() -> None:
    """Nobody may be left who saw the earlier one die."""
    core = _builder().worker(_info(_key("a")))
    core.step(WorkerStarted(), 0)
    core.step(_lease(_key("b", 1)), 1)
    assert core.view(1).blocks_leased == 3
    effects = core.step(PeerLost(key=_key("b", 2)), 2)
    assert CloseLease(move_id=MOVE, lease=1) in effects
    assert core.view(2).blocks_free == 32


def test_a_new_controller_tells_of_the_lives_before_those_it_knows() -> None:
    """A worker died while there was no controller: its second life is the proof."""
    builder = _builder()
    core, first, second = builder.cluster(), _key("a"), _key("b", 2)
    core.step(ClusterStarted(), 0)
    for key in (second, first):
        worker = builder.worker(_info(key))
        view = worker.view(0)
        if key == first:
            view = replace(view, blocks_free=29, blocks_quarantined=3)
        effects = core.step(WorkerRegistered(info=_info(key), view=view, cached=()), 1)
    assert PeerLost(key=_key("b", 1)) in _told(effects, first)
