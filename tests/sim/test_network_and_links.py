"""Messages and copies, with and without faults."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.ids import WorkerId
from splitweave.sim.links import TIMEOUT_NS, Fate, Links, LinkSpec, LinkTrouble
from splitweave.sim.network import Network, Trouble
from splitweave.sim.queue import EventQueue

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def _send(network: Any, queue: Any, count: int, source: Any = "x", target: Any = "y") -> Any:
    seen = []
    for number in range(count):
        network.send(source, target, lambda n: seen.append((queue.now_ns, n)), number)
    queue.run_until(queue.now_ns + 10**9)
    return seen


def test_without_faults_each_message_arrives_once_in_order_after_the_latency() -> None:
    queue = EventQueue()
    assert _send(Network(queue, 500, 0, 1), queue, 3) == [(500, 0), (500, 1), (500, 2)]


def test_jitter_is_seeded() -> None:
    runs = []
    for seed in (1, 1, 2):
        queue = EventQueue()
        runs.append(_send(Network(queue, 500, 1000, seed), queue, 50))
    assert runs[0] == runs[1] != runs[2]
    assert [n for _, n in runs[0]] != sorted(n for _, n in runs[0])


def test_trouble_loses_and_doubles_until_it_is_eased() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    trouble = Trouble(loss=0.3, duplicate=0.3, delay_ns_max=1000)
    network.trouble(trouble)
    seen = [n for _, n in _send(network, queue, 400)]
    assert 60 < 400 - len(set(seen)) < 180
    assert len(seen) > len(set(seen))
    network.ease(trouble)
    assert len(_send(network, queue, 50)) == 50


def test_a_cut_party_hears_and_says_nothing() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    network.cut("y")
    network.cut("y")
    assert _send(network, queue, 5) == []
    assert _send(network, queue, 5, source="y", target="z") == []
    assert len(_send(network, queue, 5, source="x", target="z")) == 5
    network.mend("y")
    assert _send(network, queue, 5) == []
    network.mend("y")
    assert len(_send(network, queue, 5)) == 5


def _links() -> Any:
    links = Links(1)
    for worker_id in (A, B, C):
        links.attach(worker_id, LinkSpec(bytes_per_s=1e9, latency_ns=10))
    return links


def test_a_copy_takes_bytes_over_bandwidth_and_then_the_latency() -> None:
    passage = _links().book(A, B, 2000, 100)
    assert (passage.sent_ns, passage.landed_ns, passage.fate) == (2100, 2110, Fate.ARRIVES)


def test_copies_through_one_port_queue_up_and_others_do_not() -> None:
    links = _links()
    assert links.book(A, B, 1000, 0).sent_ns == 1000
    assert links.book(C, B, 1000, 0).sent_ns == 2000  # waits for B's port
    assert links.book(A, C, 1000, 0).sent_ns == 2000  # waits for A's port
    assert links.book(B, A, 1000, 0).sent_ns == 1000  # the other way is free


def test_a_slow_port_slows_what_uses_it_until_healed() -> None:
    links = _links()
    links.slow(B, 10.0)
    assert links.pass_ns(A, B, 1000) == links.pass_ns(B, C, 1000) == 10_000
    assert links.pass_ns(A, C, 1000) == 1000
    links.heal()
    assert links.pass_ns(A, B, 1000) == 1000


def test_bad_links_fail_or_damage_copies() -> None:
    links = _links()
    links.trouble(LinkTrouble(fail=0.3, damage=0.3))
    fates = [links.book(A, B, 1, 0).fate for _ in range(300)]
    assert all(40 < fates.count(fate) < 180 for fate in Fate)


def test_the_worse_of_two_ports_counts_in_bandwidth_latency_and_slowness() -> None:
    links = _links()
    links.attach(C, LinkSpec(bytes_per_s=0.5e9, latency_ns=70))
    assert links.book(A, C, 1000, 0).landed_ns == 2000 + 70
    assert links.book(C, A, 1000, 0).landed_ns == 2000 + 70
    links.slow(A, 3.0)
    links.slow(C, 5.0)
    assert links.pass_ns(A, C, 1000) == links.pass_ns(C, A, 1000) == 10_000


def test_the_latency_does_not_hold_up_the_next_copy() -> None:
    links = Links(1)
    for worker_id in (A, B):
        links.attach(worker_id, LinkSpec(bytes_per_s=1e9, latency_ns=1_000_000))
    passages = [links.book(A, B, 100, 0) for _ in range(3)]
    assert [p.sent_ns for p in passages] == [100, 200, 300]
    assert [p.landed_ns for p in passages] == [1_000_100, 1_000_200, 1_000_300]


def test_slowness_spares_what_is_under_way_and_outlives_the_heal_for_what_waits() -> None:
    links = _links()
    assert links.book(A, B, 1000, 0).sent_ns == 1000
    links.slow(B, 10.0)
    assert links.book(A, B, 1000, 0).sent_ns == 1000 + 10_000
    links.heal()
    assert links.book(C, B, 1000, 0).sent_ns == 11_000 + 1000


def test_a_copy_still_queued_at_its_deadline_fails_then_and_frees_the_port() -> None:
    links = _links()
    links.slow(B, 1e9)
    first = links.book(A, B, 1000, 0)
    behind = links.book(C, B, 1000, 4)
    assert (first.sent_ns, first.fate) == (TIMEOUT_NS, Fate.FAILS)
    assert (behind.sent_ns, behind.fate) == (TIMEOUT_NS + 4, Fate.FAILS)
    links.heal()
    after = links.book(C, B, 1000, TIMEOUT_NS + 4)
    assert (after.sent_ns, after.fate) == (TIMEOUT_NS + 4 + 1000, Fate.ARRIVES)


def test_a_copy_that_leaves_at_its_deadline_arrives() -> None:
    assert _links().book(A, B, TIMEOUT_NS, 0).fate is Fate.ARRIVES
    assert _links().book(A, B, TIMEOUT_NS + 1, 0).fate is Fate.FAILS


def test_fates_are_seeded_and_good_links_draw_none() -> None:
    def fates(seed: int, calm_copies: int) -> list[Fate]:
        links = Links(seed)
        for worker_id in (A, B):
            links.attach(worker_id, LinkSpec(bytes_per_s=1e9, latency_ns=10))
        for _ in range(calm_copies):
            links.book(A, B, 1, 0)
        links.trouble(LinkTrouble(fail=0.3, damage=0.3))
        return [links.book(A, B, 1, 0).fate for _ in range(60)]

    assert fates(1, 0) == fates(1, 25) != fates(2, 0)


COPIES = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.sampled_from([A, B, C]),
              st.integers(1, 5000), st.integers(0, 3000)).filter(lambda c: c[0] != c[1]),
    max_size=30,
)  # fmt: skip


@given(COPIES)
@settings(deadline=None)
def test_a_port_carries_one_copy_at_a_time_in_order_and_never_idles(copies: Any) -> None:
    links, now_ns = _links(), 0
    ports: dict[Any, list[tuple[int, int]]] = {}
    for source, target, transfer_bytes, gap_ns in copies:
        now_ns += gap_ns
        passage = links.book(source, target, transfer_bytes, now_ns)
        start_ns = passage.sent_ns - transfer_bytes
        used = [ports.setdefault(port, []) for port in (("out", source), ("in", target))]
        before = [port[-1][1] for port in used if port]
        assert all(end <= start_ns for end in before), "two copies at once, or out of turn"
        assert start_ns == now_ns or start_ns in before, "waits for nobody"
        for port in used:
            port.append((start_ns, passage.sent_ns))


def _fair_shares(loss: float, duplicate: float, seed: int) -> tuple[int, int, Network]:
    """Of 4000 messages under a trouble: how many arrived at all, and how many twice."""
    queue = EventQueue()
    network = Network(queue, 500, 0, seed)
    network.trouble(Trouble(loss=loss, duplicate=duplicate, delay_ns_max=1000))
    seen = [n for _, n in _send(network, queue, 4000)]
    return len(set(seen)), len(seen) - len(set(seen)), network


@pytest.mark.parametrize(("loss", "duplicate"), [(0.0, 0.0), (0.25, 0.0), (0.1, 0.4), (1.0, 0.5)])
def test_losses_and_doubles_have_the_given_chances(loss: float, duplicate: float) -> None:
    arrived, doubled, network = _fair_shares(loss, duplicate, 3)
    wide = 4 * (4000 * 0.25) ** 0.5  # four standard deviations at the most
    assert abs(arrived - 4000 * (1 - loss)) <= (wide if 0 < loss < 1 else 0)
    assert abs(doubled - arrived * duplicate) <= wide * (duplicate > 0)
    assert network.sent == 4000
    assert network.lost == 4000 - arrived  # nothing vanishes uncounted


def test_two_troubles_add_up() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    for _ in range(2):
        network.trouble(Trouble(loss=0.5, duplicate=0.0, delay_ns_max=1000))
    seen = _send(network, queue, 4000)
    assert abs(len(seen) - 1000) < 120
    late = [at_ns for at_ns, _ in seen]
    assert 500 + 1000 < max(late) < 500 + 2000


def test_delays_are_even_and_let_messages_overtake_each_other() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    network.trouble(Trouble(loss=0.0, duplicate=0.0, delay_ns_max=10_000))
    seen = _send(network, queue, 4000)
    delays = [at_ns - 500 for at_ns, _ in seen]
    assert min(delays) >= 0
    assert max(delays) < 10_000
    assert sum(delays) / len(delays) == pytest.approx(5000, rel=0.05)
    assert sorted(n for _, n in seen) == list(range(4000)) != [n for _, n in seen]


def test_a_double_comes_after_its_original() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    network.trouble(Trouble(loss=0.0, duplicate=1.0, delay_ns_max=10_000))
    times: dict[int, list[int]] = {}
    for at_ns, number in _send(network, queue, 200):
        times.setdefault(number, []).append(at_ns)
    assert all(len(pair) == 2 and pair[1] - pair[0] < 10_000 for pair in times.values())


def test_jitter_is_exponential_with_its_mean() -> None:
    queue = EventQueue()
    delays = [at_ns - 500 for at_ns, _ in _send(Network(queue, 500, 1000, 1), queue, 4000)]
    assert sum(delays) / 4000 == pytest.approx(1000, rel=0.08)
    assert sum(delay > 1000 for delay in delays) / 4000 == pytest.approx(0.368, abs=0.04)


def test_a_cut_spares_what_was_sent_before_and_heal_undoes_all_cuts() -> None:
    queue, seen = EventQueue(), []
    network = Network(queue, 500, 0, 1)
    network.send("x", "y", seen.append, "early")
    network.cut("y")
    network.cut("y")
    network.send("x", "y", seen.append, "lost")
    network.heal()
    network.send("x", "y", seen.append, "late")
    network.mend("y")
    queue.run_until(10_000)
    assert seen == ["early", "late"]
    assert network.lost == 1


def test_troubled_messages_are_seeded() -> None:
    runs = [_fair_shares(0.2, 0.2, seed)[:2] for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_overlapping_slownesses_each_last_their_time_and_the_slowest_counts() -> None:
    links = _links()
    links.slow(B, 10.0)
    links.slow(B, 3.0)
    assert links.pass_ns(A, B, 1000) == 10_000
    links.quicken(B, 10.0)
    assert links.pass_ns(A, B, 1000) == 3000
    links.quicken(B, 3.0)
    links.quicken(B, 3.0)
    assert links.pass_ns(A, B, 1000) == 1000


def test_overlapping_copy_troubles_each_last_their_time() -> None:
    links, sure, other = _links(), LinkTrouble(fail=1.0), LinkTrouble(damage=1.0)
    links.trouble(sure)
    links.trouble(other)
    links.ease(sure)
    assert links.book(A, B, 1, 0).fate is Fate.DAMAGED
    links.ease(other)
    links.ease(other)
    assert links.book(A, B, 1, 0).fate is Fate.ARRIVES


def test_copies_from_one_worker_to_another_may_fail_and_the_other_way_arrive() -> None:
    links = _links()
    links.trouble(LinkTrouble(fail=1.0, source=A, target=B))
    fates = [links.book(*pair, 1, 0).fate for pair in ((A, B), (B, A), (A, C), (C, B))]
    assert fates == [Fate.FAILS, Fate.ARRIVES, Fate.ARRIVES, Fate.ARRIVES]


def test_a_source_may_be_told_late_that_a_copy_has_left() -> None:
    links = _links()
    assert links.book(A, B, 1000, 0).told_ns == 1000
    links.trouble(LinkTrouble(told_late_ns_max=5000))
    late = [p.told_ns - p.sent_ns for p in (links.book(A, B, 1, 0) for _ in range(300))]
    assert min(late) >= 0
    assert 4500 < max(late) < 5000


def test_one_party_may_be_deaf_to_another_that_hears_it() -> None:
    queue = EventQueue()
    network = Network(queue, 500, 0, 1)
    deaf = Trouble(loss=1.0, duplicate=0.0, delay_ns_max=0, source="x", target="y")
    network.trouble(deaf)
    assert _send(network, queue, 3, "x", "y") == []
    assert len(_send(network, queue, 3, "y", "x")) == 3
    assert len(_send(network, queue, 3, "x", "z")) == 3
    network.ease(deaf)
    assert len(_send(network, queue, 3, "x", "y")) == 3


def test_a_trouble_of_some_types_spares_the_others_addressed_or_not() -> None:
    queue, seen = EventQueue(), []
    network = Network(queue, 500, 0, 1)
    network.trouble(Trouble(loss=1.0, duplicate=0.0, delay_ns_max=0, kinds=("int",)))
    for message in (1, "a", ("to", 2), ("to", "b")):
        network.send("x", "y", seen.append, message)
    queue.run_until(1000)
    assert seen == ["a", ("to", "b")]


def test_what_was_sent_to_somebody_since_it_was_asked_to_remember_can_come_again() -> None:
    queue, seen = EventQueue(), []
    network = Network(queue, 500, 0, 1)
    network.send("x", "y", seen.append, "too early")
    network.remember()
    for message in ("a1", "b1", "a2"):
        network.send("x", "y", seen.append, message)
    network.send("x", "z", seen.append, "a3")
    queue.run_until(1000)
    seen.clear()
    for deliver, message in network.past("y"):
        deliver(message)
    assert seen == ["a1", "b1", "a2"]
    assert network.past("nobody") == []


def test_without_memory_there_is_no_past() -> None:
    queue, seen = EventQueue(), []
    network = Network(queue, 500, 0, 1)
    network.send("x", "y", seen.append, "a")
    assert network.past("y") == []
