"""Bytes that change between two real workers: the move ends at once, the stream stays true."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_pair import LIMITS, Cluster, move, request
from splitweave.proto.cluster_events import WorkerViewed
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.views import Role, WorkerView
from splitweave.proto.worker_events import MoveOrdered, RequestAssigned, RoleAssigned
from splitweave.workers.live import copier
from splitweave.workers.live.transport.gloo import GlooPair
from splitweave.workers.live.transport.memory import MemoryPair
from splitweave.workers.live.worker import Worker

# No timer of a move can end it within a test's patience.
HOUR_NS = 3_600 * 1_000_000_000
PATIENT = replace(LIMITS, lease_ns=HOUR_NS, copy_ns=HOUR_NS, handover_ns=HOUR_NS)
# What the abort may take on a busy machine.
AT_ONCE_NS = 5_000_000_000
PROMPT = tuple(range(7, 82))
Arm = Callable[[pytest.MonkeyPatch, threading.Event], None]


def flip_on_the_wire(patch: pytest.MonkeyPatch, armed: threading.Event) -> None:
    """One bit of the next message, behind the checksum's back."""
    for pair in (GlooPair, MemoryPair):

        def send(self: Any, place: Any, number: int, whole: Any = pair.send) -> Any:
            if armed.is_set():
                armed.clear()
                place[3] ^= 4
            return whole(self, place, number)

        patch.setattr(pair, "send", send)


def misfit_at_the_target(patch: pytest.MonkeyPatch, armed: threading.Event) -> None:
    """The target's blocks are of another size than what is announced."""
    true_size = copier._LeasedLanding.size_bytes.fget
    assert true_size is not None

    def size_bytes(self: Any) -> int:
        if armed.is_set():
            armed.clear()
            return int(true_size(self)) + 16
        return int(true_size(self))

    patch.setattr(copier._LeasedLanding, "size_bytes", property(size_bytes))


@pytest.fixture
def cluster(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster(tiny_llama, monkeypatch)
    yield cluster
    cluster.close()


def started(cluster: Cluster, way: str) -> tuple[Worker, Worker]:
    """Two workers whose hearts beat."""
    pair = [cluster.start(name, limits=PATIENT, same_host=way) for name in "ab"]
    for worker in pair:
        cluster.ready(worker)
        worker.deliver(worker._key, [RoleAssigned(role=Role.MIXED, draining=False)])
    return pair[0], pair[1]


def undisturbed(cluster: Cluster, worker: Worker) -> list[int]:
    """The same request, alone, where its prefix will not be looked for."""
    worker.deliver(worker._key, [RequestAssigned(request=request("true", PROMPT, 60))])
    tokens = cluster.gateway.stream("true")
    cluster.ack("true")
    return tokens


@pytest.mark.parametrize("damage", [flip_on_the_wire, misfit_at_the_target])
@pytest.mark.parametrize("way", ["auto", "network"])
@pytest.mark.parametrize("kind", [MoveKind.HANDOFF, MoveKind.MIGRATION])
def test_a_damaged_copy_aborts_its_move_at_once_and_the_source_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, damage: Arm, way: str, kind: MoveKind
) -> None:
    a, b = started(cluster, way)
    expected = undisturbed(cluster, a)
    armed = threading.Event()
    damage(monkeypatch, armed)
    armed.set()
    asked, order = request("r", PROMPT, 60), move("r", kind, a, b._key)
    if kind is MoveKind.HANDOFF:
        a.deliver(a._key, [RequestAssigned(request=asked, handoff=order)])
    else:
        a.deliver(a._key, [RequestAssigned(request=asked), MoveOrdered(order=order)])
    report = cluster.report("move-r")
    assert not armed.is_set(), "nothing was damaged"
    assert report.outcome is Stage.ABORTED
    assert report.reason.startswith("copy failed: ")
    assert report.wall_ns < AT_ONCE_NS
    assert cluster.gateway.stream("r") == expected
    assert cluster.gateway.workers("r") == [a._key]
    cluster.ack("r")
    seen = len(views(cluster, b))
    # One view may have been on its way.
    cluster.controller.wait(lambda: any(lent_nothing(v) for v in views(cluster, b)[seen + 1 :]))


def views(cluster: Cluster, worker: Worker) -> list[WorkerView]:
    return [e.view for e in cluster.controller.of(WorkerViewed) if e.view.key == worker._key]


def lent_nothing(view: WorkerView) -> bool:
    return view.blocks_leased + view.blocks_quarantined == 0
