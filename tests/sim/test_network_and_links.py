"""Messages and copies, with and without faults."""

from typing import Any

from splitweave.proto.ids import WorkerId
from splitweave.sim.links import Fate, Links, LinkSpec
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
    links.trouble(0.3, 0.3)
    fates = [links.book(A, B, 1, 0).fate for _ in range(300)]
    assert all(40 < fates.count(fate) < 180 for fate in Fate)
