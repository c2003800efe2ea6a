"""One disturbance after the n-th step of a move, for every n: nothing may be left behind."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from fleet import Fleet, Worker
from parts import GATEWAY, MS, Network, key_of
from splitweave.proto.ids import Epoch
from splitweave.proto.worker_events import (
    GatewayLost,
    RequestAssigned,
    RequestCancelled,
    StreamAcked,
)

Disturbance = Callable[[Fleet], None]


def moving(kind: str, disturb_at: int, disturb: Disturbance) -> tuple[Fleet, int]:
    """Runs a move; `disturb` comes after its n-th step. Returns how many steps there were."""
    fleet = Fleet("ab", network=Network(copy_ns=400_000))
    fleet.run(10 * MS)
    steps = 0
    disturbed = False

    def count(worker: Worker, event: Any, effects: list[Any]) -> None:
        nonlocal steps
        steps += 1
        if steps == disturb_at:
            fleet.at(fleet.now_ns, go)

    def go() -> None:
        nonlocal disturbed
        disturbed = True
        disturb(fleet)

    fleet.on_step = count
    if kind == "handoff":
        fleet.ask("a", "r", list(range(38)), 12, handoff="b")
    else:
        fleet.ask("a", "r", list(range(38)), 24)
        fleet.run(6 * MS)
        fleet.migrate("r", "a", "b")
    fleet.run(40 * MS)
    steps_then = steps
    if disturb_at and not disturbed:
        pytest.fail(f"there is no step {disturb_at}")
    return fleet, steps_then


@cache
def steps_of(kind: str) -> int:
    return moving(kind, 0, lambda fleet: None)[1]


STEPS = [
    (kind, step) for kind in ("handoff", "migration") for step in range(1, steps_of(kind) - 12)
]


def settle(fleet: Fleet) -> None:
    fleet.run(300 * MS)
    fleet.assert_empty()


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_cancellation_everywhere_leaves_nothing(kind: str, step: int) -> None:
    def cancel(fleet: Fleet) -> None:
        for key in fleet.workers:
            fleet.post(key, RequestCancelled(request_id="r"))

    fleet, _ = moving(kind, step, cancel)
    fleet.run(6000 * MS)
    for key in fleet.workers:  # a target that committed unheard is told by its view
        fleet.post(key, RequestCancelled(request_id="r"))
    settle(fleet)


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_lost_gateway_leaves_nothing(kind: str, step: int) -> None:
    def lose(fleet: Fleet) -> None:
        fleet.gateway_deaf = True
        for key in fleet.workers:
            fleet.post(key, GatewayLost(gateway_id=GATEWAY))

    fleet, _ = moving(kind, step, lose)
    settle(fleet)


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_an_early_ack_leaves_nothing(kind: str, step: int) -> None:
    def ack(fleet: Fleet) -> None:
        for key in fleet.workers:
            fleet.post(key, StreamAcked(request_id="r"))

    fleet, _ = moving(kind, step, ack)
    fleet.run(6000 * MS)
    settle(fleet)


@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_death_of_either_side_costs_no_token(kind: str, step: int, victim: str) -> None:
    fleet, _ = moving(kind, step, lambda fleet: fleet.kill(victim))
    fleet.run(500 * MS)
    fleet.recover()
    fleet.run_until_done()
    stream = fleet.streams["r"]
    assert stream.text == stream.expected
    settle(fleet)


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_newer_attempt_at_the_source_wins(kind: str, step: int) -> None:
    def attempt(fleet: Fleet) -> None:
        request = replace(fleet.streams["r"].request, epoch=Epoch(1))
        fleet.post(key_of("a"), RequestAssigned(request=request))

    fleet, _ = moving(kind, step, attempt)
    fleet.run_until_done()
    fleet.run(7000 * MS)
    settle(fleet)
    stream = fleet.streams["r"]
    assert stream.text == stream.expected


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_partition_heals(kind: str, step: int) -> None:
    def cut(fleet: Fleet) -> None:
        def mend() -> None:
            fleet.network.lost = 0.0

        fleet.network.lost = 1.0
        fleet.at(fleet.now_ns + 4 * MS, mend)

    fleet, _ = moving(kind, step, cut)
    fleet.run_until_done()
    fleet.run(8000 * MS)
    settle(fleet)
    stream = fleet.streams["r"]
    assert stream.text == stream.expected
