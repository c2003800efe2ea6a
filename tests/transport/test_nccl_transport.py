"""Whole copies through the NCCL backend, its communicators' place taken by gloo's."""

import time
from collections.abc import Iterator
from dataclasses import replace
from queue import Queue
from typing import Any

import pytest
import torch
from communicators import GlooCommunicators, ScriptedCommunicators
from flat import FlatLanding, FlatPayload
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.nccl_limits import NcclLimits
from splitweave.workers.live.transport import (
    CopyResult,
    ParcelHeader,
    Transport,
    TransportLimits,
    Ways,
)
from splitweave.workers.live.transport.nccl import NcclBackend

WAIT_S = 60.0
CPU = torch.device("cpu")
LIMITS = TransportLimits(
    open_timeout_s=50.0, copy_timeout_s=50.0, chunk_bytes=4096, in_flight_max=64, pairs_max=1
)
NCCL = NcclLimits(pairs_max=2, abort_stuck_s=600.0, open_stuck_s=600.0, linger_s=0.1)


def key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))


class Side:
    """A worker with the NCCL backend."""

    def __init__(
        self,
        name: str,
        communicators: Any,
        fleet: dict[str, "Side"],
        limits: TransportLimits = LIMITS,
    ) -> None:
        self.fleet = fleet
        self.stuck: Queue[str] = Queue()
        self.ends: Queue[CopyResult] = Queue()
        self.arrived: Queue[torch.Tensor] = Queue()
        self.communicators = communicators
        self.backend = NcclBackend(CPU, self.stuck.put, NCCL, communicators)
        self.transport = Transport(
            key(name), "127.0.0.1", self._announce, Ways(self.backend, None, ""), limits
        )
        fleet[name] = self

    def send(self, target: "Side", copy_id: str, payload: Any) -> None:
        copy = Copy(
            copy_id=copy_id, move_id=MoveId("m"), lease=1, target=target.transport.endpoint.worker,
            first_layer=0, last_layer=1, source_blocks=(), target_blocks=(),
        )  # fmt: skip
        self.transport.send(target.transport.endpoint, copy, FlatPayload(payload), self.ends.put)

    def landed(self) -> CopyResult:
        return self.ends.get(timeout=WAIT_S)

    def close(self) -> None:
        self.transport.close()
        self.backend.close(WAIT_S)

    def _announce(self, target: Any, header: ParcelHeader, copies: Any) -> None:
        to = self.fleet[target.worker.worker_id]
        landings = [FlatLanding(copy.transfer_bytes) for copy in header.copies]
        for landing in landings:
            to.arrived.put(landing.tensor)
        to.transport.receive(header, landings, to.ends.put)


@pytest.fixture
def fleet() -> Iterator[dict[str, Side]]:
    fleet: dict[str, Side] = {}
    yield fleet
    for side in fleet.values():
        side.close()


def test_copies_of_all_sizes_arrive_whole_and_in_order_in_groups_from_one_thread(
    fleet: dict[str, Side],
) -> None:
    a, b = (Side(name, GlooCommunicators(), fleet) for name in "ab")
    sizes = [0, 1, 4095, 4096, 4097, 100 * 4096 + 7, 0, 13]
    payloads = [torch.randint(256, (size,)).byte() for size in sizes]
    for number, payload in enumerate(payloads):
        a.send(b, str(number), payload)
    for number, payload in enumerate(payloads):
        landed = b.landed()
        assert (landed.copy_id, landed.error) == (str(number), None)
        assert torch.equal(b.arrived.get(timeout=WAIT_S), payload)
    assert all(a.landed().ok for _ in sizes)
    sent, received = (sum(side.communicators.opened[0].groups) for side in (a, b))
    assert sent == received
    for side in (a, b):
        (communicator,) = side.communicators.opened
        assert communicator.threads == {"kv-nccl"}
        assert max(communicator.groups) <= NCCL.group_max


def test_an_idle_pair_is_evicted_for_the_next_and_no_more_than_pairs_max_are_ever_open(
    fleet: dict[str, Side],
) -> None:
    a, b, c = (Side(name, GlooCommunicators(), fleet) for name in "abc")
    for number, target in enumerate([b, c, b, c, b]):
        a.send(target, f"x{number}", torch.full((9000,), number).byte())
        ends = [a.landed(), target.landed()]
        assert all(end.ok for end in ends), ends
    assert all(0 < side.communicators.most <= NCCL.pairs_max for side in (a, b, c))
    assert len(a.communicators.opened) == 5


def test_a_dead_peer_is_let_go_as_soon_as_it_is_declared_and_not_before_anything_says_so(
    fleet: dict[str, Side],
) -> None:
    a, b = Side("a", GlooCommunicators(), fleet), Side("b", ScriptedCommunicators(), fleet)
    a.communicators = a.backend._communicators = ScriptedCommunicators()
    a.send(b, "x", torch.ones(100_000))
    while not a.communicators.opened or not a.communicators.opened[0].launches:
        time.sleep(0.001)  # bounded by the test's timeout
    assert a.ends.empty()  # nothing is reported
    declared_at = time.monotonic()
    a.transport.close_pair(key("b"))
    assert not a.landed().ok
    assert time.monotonic() - declared_at < LIMITS.copy_timeout_s / 2
    assert a.communicators.opened[0].aborted.wait(WAIT_S)
    assert a.stuck.empty()


def test_a_silent_peer_fails_the_copy_at_its_timeout_and_the_next_one_pairs_anew(
    fleet: dict[str, Side],
) -> None:
    silent, hasty = ScriptedCommunicators(), replace(LIMITS, copy_timeout_s=2.0)
    a, b = Side("a", silent, fleet, hasty), Side("b", ScriptedCommunicators(), fleet)
    a.send(b, "x", torch.ones(10))
    result = a.landed()
    assert result.error is not None
    assert "not through" in result.error
    assert hasty.copy_timeout_s <= result.seconds < LIMITS.copy_timeout_s / 2
    a.send(b, "y", torch.ones(10))
    while len(silent.opened) < 2:
        time.sleep(0.001)
    assert silent.opened[0].aborted.wait(WAIT_S)


def test_an_abort_that_hangs_is_told_once_and_fails_the_copies_at_once(
    fleet: dict[str, Side],
) -> None:
    hanging = ScriptedCommunicators(lambda each: each.abort_may_go.clear())
    a, b = Side("a", hanging, fleet), Side("b", ScriptedCommunicators(), fleet)
    a.backend._watchdog._abort_stuck_s = 0.3
    a.send(b, "x", torch.ones(10))
    while not hanging.opened or not hanging.opened[0].launches:
        time.sleep(0.001)
    a.transport.close_pair(key("b"))
    closed_at = time.monotonic()
    assert not a.landed().ok
    assert time.monotonic() - closed_at < LIMITS.copy_timeout_s / 2
    assert a.stuck.get(timeout=WAIT_S).startswith("abort of a")
    hanging.opened[0].abort_may_go.set()
    assert hanging.opened[0].aborted.wait(WAIT_S)
    assert a.stuck.empty()
