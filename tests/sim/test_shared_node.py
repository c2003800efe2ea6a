"""Workers of one node slow each other: hand-computed overlaps, and whole worlds."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_worlds import HARDWARE, key, poisson, pool, scenario
from splitweave.sim.costs.slowdown import Kind, Slowdown, given_slowdown
from splitweave.sim.metrics import measure
from splitweave.sim.queue import EventQueue
from splitweave.sim.run import Outcome, simulate
from splitweave.sim.scenario import Scenario
from splitweave.sim.shared_node import Point, SharedNode, shared_nodes
from splitweave.sim.transcript import Transcript

TWICE = given_slowdown(2.0)
BY_KIND = Slowdown(
    added={
        (Kind.PREFILL, Kind.PREFILL): 1.0,
        (Kind.PREFILL, Kind.DECODE): 0.25,
        (Kind.DECODE, Kind.PREFILL): 0.5,
        (Kind.DECODE, Kind.DECODE): 0.0,
    }
)
SHARING: dict[str, Any] = {
    "hardware": {"a": HARDWARE | {"slowdown": 1.5}},
    "pools": [
        pool("prefill", "prefill", node_group="box"),
        pool("decode", "decode", node_group="box"),
    ],
}


class Node:
    """A node, and a log of which points were passed when."""

    def __init__(self) -> None:
        self.queue = EventQueue()
        self.node = SharedNode(self.queue)
        self.log: list[tuple[int, str]] = []

    def begin(
        self,
        at_ns: int,
        name: str,
        *points_ns: int,
        slowdown: Slowdown = TWICE,
        kind: Kind = Kind.DECODE,
    ) -> None:
        """At that instant: an iteration with such points, the last one its end."""
        points = [
            Point(done_ns=done_ns, action=self._passed, argument=name) for done_ns in points_ns
        ]
        self.queue.at(at_ns, lambda _: self.node.begin(key(name), slowdown, kind, points), None)

    def leave(self, at_ns: int, name: str) -> None:
        self.queue.at(at_ns, self.node.leave, key(name))

    def run(self) -> list[tuple[int, str]]:
        self.queue.run_until(1_000_000)
        return self.log

    def _passed(self, name: str) -> None:
        self.log.append((self.queue.now_ns, name))


def test_alone_an_iteration_takes_what_it_costs() -> None:
    node = Node()
    node.begin(10, "a", 100)
    node.begin(111, "a", 100)
    node.begin(500, "b", 7)
    assert node.run() == [(110, "a"), (211, "a"), (507, "b")]


def test_two_slow_each_other_only_while_both_run() -> None:
    node = Node()
    node.begin(0, "a", 100)  # 60 alone, 40 of its work beside b: 80
    node.begin(60, "b", 100)  # until 140 it has done 40, then 60 alone
    assert node.run() == [(140, "a"), (200, "b")]


def test_one_within_another() -> None:
    node = Node()
    node.begin(0, "a", 100)  # 20 alone, 15 in 30, 65 alone
    node.begin(20, "b", 15)
    assert node.run() == [(50, "b"), (115, "a")]


def test_three_slow_each_other_more() -> None:
    node = Node()
    for name in "abc":  # each takes three times as long beside two
        node.begin(0, name, 30 if name == "a" else 60)
    # a ends at 90; then b and c have 30 left, at half the speed.
    assert node.run() == [(90, "a"), (150, "b"), (150, "c")]


def test_points_on_the_way_come_when_so_much_is_done() -> None:
    node = Node()
    node.begin(0, "a", 25, 50, 75, 100)
    node.begin(30, "b", 30)  # both at half speed from 30 to 90, where a has done 60
    assert node.run() == [(25, "a"), (70, "a"), (90, "b"), (105, "a"), (130, "a")]


def test_whoever_dies_slows_nobody_any_more() -> None:
    node = Node()
    node.begin(0, "a", 100)
    node.begin(0, "b", 100)
    node.leave(50, "b")
    node.leave(60, "b")
    assert node.run() == [(125, "a")]


def test_a_new_life_is_not_ended_by_the_former_ones_iteration() -> None:
    node = Node()
    node.begin(0, "a", 100)
    node.leave(50, "a")
    node.begin(60, "a", 100)
    assert node.run() == [(160, "a")]


def test_who_suffers_and_from_whom_goes_by_kind() -> None:
    node = Node()
    node.begin(0, "p", 100, slowdown=BY_KIND, kind=Kind.PREFILL)  # 1.25 x: 125
    node.begin(0, "d", 60, slowdown=BY_KIND, kind=Kind.DECODE)  # 1.5 x: 90
    # d ends at 90, when p has done 72; the other 28 alone.
    assert node.run() == [(90, "d"), (118, "p")]
    node = Node()
    node.begin(0, "d", 60, slowdown=BY_KIND)
    node.begin(0, "e", 60, slowdown=BY_KIND)
    assert node.run() == [(60, "d"), (60, "e")]


def test_a_worker_without_a_slowdown_slows_others_all_the_same() -> None:
    node = Node()
    node.begin(0, "a", 100)
    node.begin(0, "b", 30, slowdown=Slowdown())
    assert node.run() == [(30, "b"), (115, "a")]


def test_two_iterations_of_one_worker_at_once_are_a_bug() -> None:
    node = Node()
    node.begin(0, "a", 100)
    node.begin(10, "a", 100)
    with pytest.raises(AssertionError, match="a#1: two iterations at once"):
        node.run()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2000), st.integers(1, 900)), max_size=12),
    st.sampled_from([1.0, 1.1, 1.5, 2.75]),
)
def test_work_is_neither_lost_nor_done_twice(
    begun: list[tuple[int, int, int]], factor: float
) -> None:
    """Recomputed in small steps of time from the log of who ran when."""
    node, runs = Node(), []
    free_ns = dict.fromkeys("abcd", 0)
    for worker, at_ns, work_ns in sorted(begun, key=lambda run: run[1]):
        name = "abcd"[worker]
        at_ns = max(at_ns, free_ns[name])
        free_ns[name] = at_ns + 4 * round(work_ns * factor) + 1  # surely ended by then
        runs.append((name, at_ns, work_ns))
        node.begin(at_ns, name, work_ns, slowdown=given_slowdown(factor))
    ends = {name: [at for at, who in node.run() if who == name] for name in "abcd"}
    spans = [(at_ns, ends[name].pop(0), work_ns) for name, at_ns, work_ns in runs]
    edges = sorted({edge for begin, end, _ in spans for edge in (begin, end)})
    for begin, end, work_ns in spans:
        done = 0.0
        for low, high in pairwise(edges):
            if begin <= low and high <= end:
                beside = sum(b <= low and high <= e for b, e, _ in spans) - 1
                done += (high - low) / (1 + beside * (factor - 1))
        assert done == pytest.approx(work_ns, abs=2.0)


# ---- whole worlds


def _figures(outcome: Outcome) -> Any:
    return measure(outcome).as_json()


def test_a_world_whose_workers_share_no_node_is_as_ever() -> None:
    apart = scenario(hardware=SHARING["hardware"])
    assert _figures(simulate(apart)) == _figures(simulate(scenario()))
    together = scenario(pools=SHARING["pools"])
    assert _figures(simulate(together)) == _figures(simulate(scenario()))


def test_sharing_a_node_costs_time_and_less_than_if_all_ran_at_once() -> None:
    load = {"workload": poisson(20, 40, 200, 30)}
    alone, shared = (simulate(scenario(**given)) for given in (load, load | SHARING))
    workers = [list(outcome.world.mail.workers.values()) for outcome in (alone, shared)]
    busy = [[party.engine.busy_ns for party in parties] for parties in workers]
    for before, after in zip(*busy, strict=True):
        assert before < after
    mean = [
        [party.engine.busy_ns / party.engine.iterations for party in parties] for parties in workers
    ]
    for before, after in zip(*mean, strict=True):
        assert after / before > 1.0
    assert measure(shared).ttft.p50_s > measure(alone).ttft.p50_s


def test_what_the_shared_node_costs_is_said() -> None:
    lines = simulate(scenario(**SHARING)).world.described()
    said = [line for line in lines if "slowdown" in line]
    by_kind = "prefill 1.5 (prefill), 1.5 (decode); decode 1.5 (prefill), 1.5 (decode)"
    assert said == [f"prefill-0, decode-0: slowdown beside one more worker: {by_kind}"]
    assert not any("slowdown" in line for line in simulate(scenario()).world.described())


def test_nothing_is_jumped_over_where_workers_share_a_node() -> None:
    given = scenario(workload=poisson(2.0, 10, 40, 100), **SHARING)
    ahead, stepped = simulate(given), simulate(replace(given, fast_forward=False))
    assert ahead.events == stepped.events
    assert _figures(ahead) == _figures(stepped)
    assert all(party.engine.fast is None for party in ahead.world.mail.workers.values())


def test_only_nodes_with_two_workers_are_shared() -> None:
    given = scenario(
        hardware=SHARING["hardware"],
        pools=[pool("m", "mixed", count=5, workers_per_node=2)],
    )
    places = shared_nodes(given, {"a": TWICE}, EventQueue()).shared
    assert list(places) == ["m-0", "m-1", "m-2", "m-3"]
    nodes = [place.node for place in places.values()]
    assert nodes[0] is nodes[1] is not nodes[2] is nodes[3]
    assert shared_nodes(given, {"a": None}, EventQueue()).shared == {}


FAULTS = {
    "until_s": 3.0, "crashes": 3, "freezes": 2, "migrations": 4, "cuts": 1, "copy_troubles": 2,
    "message_troubles": 2, "drains": 1,
}  # fmt: skip


def _faulty(seed: int) -> Scenario:
    return scenario(
        seed=seed, checked=True, faults=FAULTS, workload=poisson(10, 30, 60, 30),
        hardware=SHARING["hardware"],
        pools=[
            pool("prefill", "prefill", count=2, node_group="box", workers_per_node=2),
            pool("decode", "decode", count=2, node_group="box", workers_per_node=2),
        ],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_rule_is_broken_on_a_shared_node_whatever_fails(seed: int) -> None:
    simulate(_faulty(seed))


def test_the_same_seed_on_a_shared_node_is_the_same_run(tmp_path: Path) -> None:
    digests = []
    for name in "ab":
        transcript = Transcript(tmp_path / name)
        simulate(_faulty(3), transcript=transcript)
        transcript.close()
        digests.append(transcript.digest())
    assert digests[0] == digests[1]
