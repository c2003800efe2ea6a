"""KV copies: pairs share their ports max-min fair, copies of one pair go in order."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.ids import WorkerId
from splitweave.proto.views import Role
from splitweave.sim.fair_share import fair_rates
from splitweave.sim.links import TIMEOUT_NS, Fate, Links, LinkSpec, LinkTrouble, Passage
from splitweave.sim.queue import EventQueue
from splitweave.sim.scenario import PoolSpec

A, B, C, D = (WorkerId(name) for name in "abcd")
CARD = LinkSpec(bytes_per_s=1e9, latency_ns=10)


class Wires:
    """Four workers with ports of 1 byte/ns, and what became of each copy."""

    def __init__(self, seed: int = 1, spec: LinkSpec = CARD) -> None:
        self.queue = EventQueue()
        self.links = Links(seed, self.queue)
        self.passages: dict[Any, Passage] = {}
        self.order: list[Any] = []
        for worker_id in (A, B, C, D):
            self.links.attach(worker_id, spec)

    def send(self, source: WorkerId, target: WorkerId, transfer_bytes: int, name: Any) -> None:
        self.links.send((source, target), transfer_bytes, self._ended, name)

    def at(self, at_ns: int, *copy: Any) -> None:
        self.queue.at(at_ns, lambda _: self.send(*copy), None)

    def run(self, end_ns: int = 2 * TIMEOUT_NS) -> dict[Any, int]:
        """When each copy had left, so far."""
        self.queue.run_until(end_ns)
        return {name: passage.sent_ns for name, passage in self.passages.items()}

    def _ended(self, what: tuple[Any, Passage]) -> None:
        name, passage = what
        assert passage.sent_ns == self.queue.now_ns
        self.passages[name] = passage
        self.order.append(name)


def test_a_copy_takes_bytes_over_bandwidth_and_then_the_latency() -> None:
    wires = Wires()
    wires.at(100, A, B, 2000, "x")
    assert wires.run() == {"x": 2100}
    assert (wires.passages["x"].landed_ns, wires.passages["x"].fate) == (2110, Fate.ARRIVES)


def test_pairs_that_share_a_port_share_its_bandwidth_and_others_do_not() -> None:
    wires = Wires()
    wires.send(A, B, 1000, "ab")
    wires.send(C, B, 1000, "cb")
    wires.send(B, A, 1000, "ba")  # the other way is free
    assert wires.run() == {"ab": 2000, "cb": 2000, "ba": 1000}


def test_who_ends_leaves_its_share_to_the_others() -> None:
    wires = Wires()
    wires.send(A, B, 1000, "short")
    wires.send(C, B, 3000, "long")
    assert wires.run() == {"short": 2000, "long": 4000}  # 1000 at half speed, 2000 at full


def test_who_comes_later_slows_what_is_under_way() -> None:
    wires = Wires()
    wires.send(A, B, 1000, "first")
    wires.at(500, C, B, 250, "second")
    assert wires.run() == {"first": 1250, "second": 1000}


def test_copies_of_one_pair_go_one_after_the_other() -> None:
    wires = Wires(spec=LinkSpec(bytes_per_s=1e9, latency_ns=1_000_000))
    for name in range(3):
        wires.send(A, B, 100, name)
    assert wires.run() == {0: 100, 1: 200, 2: 300}
    landed = [passage.landed_ns for passage in wires.passages.values()]
    assert landed == [1_000_100, 1_000_200, 1_000_300]  # the latency holds nobody up


def test_a_pair_counts_once_however_many_copies_wait_in_it() -> None:
    wires = Wires()
    for name in range(3):
        wires.send(A, B, 100, name)
    wires.send(C, B, 300, "other")
    assert wires.run() == {0: 200, 1: 400, 2: 600, "other": 600}


def test_a_share_that_one_cannot_use_goes_to_the_others() -> None:
    wires = Wires()
    wires.links.attach(D, LinkSpec(bytes_per_s=0.25e9, latency_ns=10))
    wires.send(D, B, 250, "slow")
    wires.send(A, B, 750, "quick")
    assert wires.run() == {"slow": 1000, "quick": 1000}  # 1/4 and 3/4, not halves


def test_the_worse_of_two_ports_counts_in_bandwidth_and_latency() -> None:
    wires = Wires()
    wires.links.attach(C, LinkSpec(bytes_per_s=0.5e9, latency_ns=70))
    wires.send(A, C, 1000, "to")
    wires.send(C, A, 1000, "from")
    wires.run()
    assert [passage.landed_ns for passage in wires.passages.values()] == [2070, 2070]


def test_a_slow_port_slows_what_uses_it_until_healed() -> None:
    wires = Wires()
    wires.links.slow(B, 10.0)
    wires.links.slow(B, 4.0)  # the slowest counts
    for name, (source, target) in {"in": (A, B), "out": (B, C), "by": (C, A)}.items():
        wires.send(source, target, 100, name)
    wires.run(100)
    assert wires.order == ["by"]
    wires.links.heal()  # 10 bytes of 100 have left
    assert wires.run() == {"by": 100, "in": 190, "out": 190}


def test_the_end_of_one_slowness_leaves_the_other() -> None:
    wires = Wires()
    wires.links.slow(B, 10.0)
    wires.links.slow(B, 4.0)
    wires.links.quicken(B, 10.0)
    wires.links.quicken(B, 7.0)  # there is none: no error
    wires.send(A, B, 100, "x")
    assert wires.run() == {"x": 400}


def test_bad_links_fail_or_damage_copies() -> None:
    wires = Wires()
    wires.links.trouble(LinkTrouble(fail=0.3, damage=0.3))
    for name in range(300):
        wires.send(A, B, 1, name)
    wires.run()
    fates = [passage.fate for passage in wires.passages.values()]
    assert all(40 < fates.count(fate) < 180 for fate in Fate)


def test_overlapping_copy_troubles_each_last_their_time() -> None:
    wires, sure, other = Wires(), LinkTrouble(fail=1.0), LinkTrouble(damage=1.0)
    wires.links.trouble(sure)
    wires.links.trouble(other)
    wires.links.ease(sure)
    wires.send(A, B, 1, "troubled")
    wires.links.ease(other)
    wires.links.ease(other)
    wires.send(A, B, 1, "calm")
    wires.run()
    assert [p.fate for p in wires.passages.values()] == [Fate.DAMAGED, Fate.ARRIVES]


def test_copies_from_one_worker_to_another_may_fail_and_the_other_way_arrive() -> None:
    wires = Wires()
    wires.links.trouble(LinkTrouble(fail=1.0, source=A, target=B))
    for pair in ((A, B), (B, A), (A, C), (C, B)):
        wires.send(*pair, 1, pair)
    wires.run()
    failed = [pair for pair, passage in wires.passages.items() if passage.fate is Fate.FAILS]
    assert failed == [(A, B)]


def test_a_source_may_be_told_late_that_a_copy_has_left() -> None:
    wires = Wires()
    wires.send(A, B, 1000, "calm")
    wires.links.trouble(LinkTrouble(told_late_ns_max=5000))
    for name in range(300):
        wires.send(A, B, 1, name)
    wires.run()
    late = {name: p.told_ns - p.sent_ns for name, p in wires.passages.items()}
    assert late.pop("calm") == 0
    assert min(late.values()) >= 0
    assert 4500 < max(late.values()) < 5000


def test_a_copy_still_under_way_at_its_deadline_fails_then_and_frees_the_port() -> None:
    wires = Wires()
    wires.links.slow(B, 1e9)
    wires.send(A, B, 1000, "first")
    wires.at(4, A, B, 1000, "behind")
    wires.queue.run_until(TIMEOUT_NS + 4)
    assert [p.fate for p in wires.passages.values()] == [Fate.FAILS, Fate.FAILS]
    assert [p.sent_ns for p in wires.passages.values()] == [TIMEOUT_NS, TIMEOUT_NS + 4]
    wires.links.heal()
    wires.send(C, B, 1000, "after")
    assert wires.run()["after"] == TIMEOUT_NS + 4 + 1000


@pytest.mark.parametrize(("more", "fate"), [(0, Fate.ARRIVES), (1, Fate.FAILS)])
def test_a_copy_that_leaves_at_its_deadline_arrives(more: int, fate: Fate) -> None:
    wires = Wires()
    wires.send(A, B, TIMEOUT_NS + more, "x")
    assert wires.run() == {"x": TIMEOUT_NS}
    assert wires.passages["x"].fate is fate


def test_fates_are_seeded_and_good_links_draw_none() -> None:
    def fates(seed: int, calm_copies: int) -> list[Fate]:
        wires = Wires(seed)
        for name in range(calm_copies):
            wires.send(A, B, 1, name)
        wires.links.trouble(LinkTrouble(fail=0.3, damage=0.3))
        for name in range(60):
            wires.send(A, B, 1, ("troubled", name))
        wires.run()
        return [p.fate for name, p in wires.passages.items() if isinstance(name, tuple)]

    assert fates(1, 0) == fates(1, 25) != fates(2, 0)


def test_workers_of_one_node_have_their_own_wire_beside_the_card() -> None:
    wires = Wires()
    inside = LinkSpec(
        bytes_per_s=1e9, latency_ns=50, node="n", local_bytes_per_s=10e9, local_latency_ns=3
    )
    for worker_id in (A, B):
        wires.links.attach(worker_id, inside)
    wires.send(A, B, 1000, "inside")
    wires.send(A, C, 1000, "outside")  # C names no node
    assert wires.run() == {"inside": 100, "outside": 1000}
    landed = {name: passage.landed_ns for name, passage in wires.passages.items()}
    assert landed == {"inside": 103, "outside": 1050}


def test_a_pair_alone_is_scheduled_once_per_copy() -> None:
    wires = Wires()
    for name in range(50):
        wires.send(A, B, 10, name)
        wires.send(C, D, 10, -name - 1)
    wires.run()
    assert wires.queue.events == 100


def test_pools_of_one_group_share_nodes() -> None:
    def pool(**given: Any) -> PoolSpec:
        return PoolSpec(name="p", role=Role.PREFILL, hardware="h", workers_per_node=2, **given)

    assert [pool().node_of(index) for index in range(3)] == ["p/0", "p/0", "p/1"]
    assert pool(node_group="boxes").node_of(3) == "boxes/1"


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        ([], []),
        (["p"], [6.0]),
        (["p", "p", "pq"], [2.0, 2.0, 2.0]),
        (["q", "pq", "p"], [1.5, 1.5, 4.5]),
        (["pr", "p", "qr"], [0.5, 5.5, 0.5]),
    ],
)
def test_fair_rates_by_hand(flows: Sequence[str], expected: list[float]) -> None:
    capacity = {"p": 6.0, "q": 3.0, "r": 1.0}
    assert fair_rates([list(flow) for flow in flows], capacity) == pytest.approx(expected)


# ---- against a fluid simulation that knows no shortcut

COPIES = st.lists(
    st.tuples(st.sampled_from([A, B, C, D]), st.sampled_from([A, B, C, D]),
              st.integers(1, 5000), st.integers(0, 3000)).filter(lambda c: c[0] != c[1]),
    max_size=25,
)  # fmt: skip
SPEEDS = {A: 1.0, B: 0.7, C: 2.0, D: 0.3}  # bytes per ns


def _filled(pairs: Sequence[tuple[WorkerId, WorkerId]]) -> dict[Any, float]:
    """Rates that rise together by little drops, each until one of its ports is full."""
    drop = 1 / 4096
    rates = dict.fromkeys(pairs, 0.0)
    rising = list(pairs)
    while rising:
        for side in (0, 1):
            for worker_id, speed in SPEEDS.items():
                used = sum(rate for pair, rate in rates.items() if pair[side] == worker_id)
                mine = [pair for pair in rising if pair[side] == worker_id]
                if mine and used + drop * len(mine) > speed:
                    rising = [pair for pair in rising if pair not in mine]
        for pair in rising:
            rates[pair] += drop
    return rates


def _fluid(copies: Sequence[Any]) -> list[float]:
    """When each copy has left: all rates anew at every arrival and every end."""
    ends, now, coming = [0.0] * len(copies), 0.0, []
    at = 0
    for number, (source, target, size, gap) in enumerate(copies):
        at += gap
        coming.append((float(at), number, (source, target), float(size)))
    queues: dict[Any, list[list[float]]] = {}
    while coming or queues:
        rates = _filled(list(queues))
        next_end = min((now + q[0][1] / rates[p] for p, q in queues.items()), default=float("inf"))
        then = min(next_end, coming[0][0] if coming else float("inf"))
        for pair, queue in queues.items():
            queue[0][1] -= rates[pair] * (then - now)
        now = then
        for pair in [p for p, q in queues.items() if q[0][1] <= 1e-6]:
            ends[int(queues[pair].pop(0)[0])] = now
            if not queues[pair]:
                del queues[pair]
        while coming and coming[0][0] <= now:
            _, number, pair, size = coming.pop(0)
            queues.setdefault(pair, []).append([number, size])
    return ends


@given(COPIES)
@settings(deadline=None, max_examples=60)
def test_copies_end_as_in_a_brute_force_fluid_simulation(copies: Any) -> None:
    wires = Wires()
    for worker_id, speed in SPEEDS.items():
        wires.links.attach(worker_id, LinkSpec(bytes_per_s=speed * 1e9, latency_ns=0))
    now_ns = 0
    for number, (source, target, transfer_bytes, gap_ns) in enumerate(copies):
        now_ns += gap_ns
        wires.at(now_ns, source, target, transfer_bytes, number)
    found = wires.run()
    for number, expected in enumerate(_fluid(copies)):
        assert found[number] == pytest.approx(expected, rel=0.01, abs=40)


@given(COPIES)
@settings(deadline=None, max_examples=60)
def test_no_port_carries_more_than_it_can_and_each_pair_keeps_its_order(copies: Any) -> None:
    wires, now_ns = Wires(), 0
    for number, (source, target, transfer_bytes, gap_ns) in enumerate(copies):
        now_ns += gap_ns
        wires.at(now_ns, source, target, transfer_bytes, number)
    found = wires.run()
    for side in (0, 1):
        for worker_id in (A, B, C, D):
            mine = [n for n, copy in enumerate(copies) if copy[side] == worker_id]
            for until in (found[n] for n in mine):
                carried = sum(copies[n][2] for n in mine if found[n] <= until)
                assert carried <= until + len(mine) * len(copies)
    for pair in {copy[:2] for copy in copies}:
        ended = [found[n] for n, copy in enumerate(copies) if copy[:2] == pair]
        assert ended == sorted(ended)
