"""Seeded disorder: lost, doubled, late messages, failing copies, deaths, cancellation, preemption.

The core checks itself after each step (see `Fleet.post`), the gateway compares
every token with the true stream. Then the world heals, and all must end empty.
"""

from dataclasses import replace
from random import Random

import pytest
from fleet import Fleet
from parts import LIMITS, MS, Network
from splitweave.proto.move import FetchPlan, MoveKind
from splitweave.proto.worker_events import MoveOrdered, RequestCancelled
from splitweave.workers.core import WorkerLimits

LIMITS_FAST = {
    "lease_ns": 40 * MS,
    "lease_ask_ns": 5 * MS,
    "lease_asks_max": 4,
    "copy_ns": 20 * MS,
    "handover_ns": 15 * MS,
    "fetch_ns": 25 * MS,
    "resend_ns": 20 * MS,
    "resends_max": 1000,
}


def limits(random: Random) -> WorkerLimits:
    return replace(
        LIMITS,
        **LIMITS_FAST,
        handover_blocks_max=random.choice([1, 2, 4]),
        layer_group=random.choice([1, 2, 3, 8]),
        copies_in_flight_max=random.choice([1, 2, 8]),
        copy_blocks_max=random.choice([1, 4, 64]),
        **pacing(random.choice([5, 30, 100])),
        moves_max=random.choice([2, 64]),
        ended_moves_max=random.choice([2, 64]),
        sequences_max=random.choice([2, 8]),
    )


def pacing(percent: int) -> dict[str, int]:
    return {
        "copy_percent": percent,
        "drain_copy_percent": percent,
        "paced_copy_bytes": 300,
        "asks_ahead_max": 1 if percent == 5 else 4,
    }


def network(random: Random) -> Network:
    return Network(
        random=random,
        jitter_ns=random.choice([1, 1 * MS, 20 * MS]),
        lost=random.choice([0.0, 0.1, 0.4]),
        doubled=random.choice([0.0, 0.3]),
        copies_failed=random.choice([0.0, 0.05]),
        copy_ns=random.choice([100_000, 2 * MS, 30 * MS]),
    )


def heal(fleet: Fleet) -> None:
    fleet.network.lost = fleet.network.doubled = fleet.network.copies_failed = 0.0
    fleet.network.jitter_ns = 1
    fleet.network.copy_ns = 100_000
    for _ in range(20):
        fleet.run(200 * MS)
        fleet.recover()
        if all(stream.done for stream in fleet.streams.values()):
            break
    fleet.run(500 * MS)


def prompt(random: Random) -> list[int]:
    """Often a prefix of another prompt."""
    start = random.choice([0, 0, 0, 100])
    return list(range(start, start + random.randrange(1, 70)))


def fetch_plan(fleet: Fleet, seed: int, at: str, workers: str) -> FetchPlan | None:
    """Often none, often of blocks that nobody has, sometimes from itself."""
    random = Random(f"fetch {seed}")
    peer = random.choice([other for other in workers if other != at] if seed % 9 else [at])
    return fleet.fetch_plan(peer, random.randrange(1, 17)) if random.random() < 0.5 else None


def disturb(fleet: Fleet, random: Random, workers: str) -> None:
    """One thing out of the ordinary."""
    name = random.choice(list(fleet.streams))
    source, target = random.sample(workers, 2)
    dice = random.random()
    if dice < 0.75:
        for holder in fleet.holder(name):
            kind = random.choice([MoveKind.MIGRATION, MoveKind.MIGRATION, MoveKind.HANDOFF])
            other = random.choice([worker for worker in workers if worker != holder])
            order = fleet.move_order(name, holder, other, kind)
            fleet.post(order.source, MoveOrdered(order=order))
    elif dice < 0.85:
        fleet.assign(source, fleet.streams[name].request, random.choice([None, target]))
    else:
        fleet.migrate(name, source, target)


def play(seed: int, *, deaths: bool, cancels: bool) -> Fleet:
    random = Random(seed)
    workers = random.choice(["ab", "abc"]) + ("z" if deaths else "")
    blocks = random.choice([24, 32, 64, 128])
    layers = random.choice([1, 4, 5])
    host_blocks = Random(f"host {seed}").choice([0, 4, 16, 64])
    fleet = Fleet(workers, limits(random), network(random), blocks, layers, host_blocks=host_blocks)
    for number in range(random.randrange(2, 9)):
        source, target = random.sample(workers, 2)
        handoff = random.choice([None, target])
        arrived_ns = random.randrange(5)
        fleet.ask(
            source,
            f"r{number}",
            prompt(random),
            random.randrange(1, 24),
            handoff,
            fetch_plan(fleet, seed + number, source, workers),
            arrived_ns=arrived_ns,
        )
        fleet.run(random.randrange(1, 5 * MS))
        if random.random() < 0.7:
            disturb(fleet, random, workers)
    for _ in range(random.randrange(10)):
        fleet.run(random.randrange(1, 10 * MS))
        disturb(fleet, random, workers)
        if cancels and random.random() < 0.3:
            name = random.choice(list(fleet.streams))
            for key in fleet.workers:
                fleet.post(key, RequestCancelled(request_id=name))
    if deaths:
        fleet.kill("z")
        fleet.run(random.randrange(1, 30 * MS))
    heal(fleet)
    return fleet


@pytest.mark.parametrize("seed", range(250))
def test_every_stream_is_true_and_ends_whatever_the_network_does(seed: int) -> None:
    fleet = play(seed, deaths=False, cancels=False)
    for stream in fleet.streams.values():
        assert stream.done
        assert stream.text == stream.expected[: len(stream.text)]
    fleet.assert_empty()


@pytest.mark.parametrize("seed", range(1000, 1150))
def test_nothing_is_left_behind_by_deaths_and_cancellations(seed: int) -> None:
    fleet = play(seed, deaths=True, cancels=True)
    assert all(stream.done for stream in fleet.streams.values())
    fleet.assert_empty()


def test_the_same_seed_gives_the_same_transcript() -> None:
    first, again = (play(7, deaths=True, cancels=True) for _ in range(2))
    assert first.transcript == again.transcript
    assert first.transcript
