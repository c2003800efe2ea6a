"""Messages, with and without faults."""

from typing import Any

import pytest
from splitweave.sim.network import Network, Trouble
from splitweave.sim.queue import EventQueue


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
