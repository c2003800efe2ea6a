"""Virtual time: order, timers, freezes."""

from typing import Any

from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from splitweave.sim.loop import LoopScheduler, VirtualLoop
from splitweave.sim.queue import EventQueue
from splitweave.sim.shell import QueueShell

KEY = TimerKey("k")


def _shell(queue: Any, answers: Any) -> Any:
    """A shell over a core that answers each event by table, and a log of its steps."""
    log = []

    def step(event: Any, now_ns: Any) -> Any:
        log.append((now_ns, event))
        return answers.get(event, [])

    return QueueShell(queue, step, log.append, None), log


def test_equal_times_run_in_order_of_asking() -> None:
    queue, seen = EventQueue(), []
    for name in "abc":
        queue.at(5, seen.append, name)
    queue.at(4, seen.append, "first")
    queue.run_until(10)
    assert seen == ["first", "a", "b", "c"]
    assert queue.now_ns == 10


def test_the_past_is_now() -> None:
    queue, seen = EventQueue(), []
    queue.run_until(7)
    queue.at(3, lambda _: seen.append(queue.now_ns), None)
    queue.run_until(7)
    assert seen == [7]


def test_a_timer_fires_once_at_its_last_setting() -> None:
    queue = EventQueue()
    shell, log = _shell(queue, {"a": [SetTimer(KEY, 10)], "b": [SetTimer(KEY, 30)]})
    shell.post("a")
    queue.at(5, shell.post, "b")
    queue.run_until(100)
    assert log == [(0, "a"), (5, "b"), (30, TimerFired(KEY))]


def test_a_timer_moved_forward_fires_early() -> None:
    queue = EventQueue()
    shell, log = _shell(queue, {"a": [SetTimer(KEY, 50)], "b": [SetTimer(KEY, 8)]})
    shell.post("a")
    queue.at(5, shell.post, "b")
    queue.run_until(100)
    assert log[-1] == (8, TimerFired(KEY))
    assert len(log) == 3


def test_a_cleared_timer_never_fires_though_set_again_for_the_same_time() -> None:
    queue = EventQueue()
    answers = {"a": [SetTimer(KEY, 50)], "b": [ClearTimer(KEY)], "c": [SetTimer(KEY, 50)]}
    shell, log = _shell(queue, answers)
    shell.post("a")
    shell.post("b")
    queue.run_until(60)
    assert len(log) == 2
    shell.post("a")
    shell.post("b")
    shell.post("c")
    queue.run_until(100)
    assert log[-1] == (60, TimerFired(KEY))
    assert sum(entry[1] == TimerFired(KEY) for entry in log) == 1


def test_a_timer_moved_to_the_time_of_another_event_comes_after_it() -> None:
    queue = EventQueue()
    shell, log = _shell(queue, {"a": [SetTimer(KEY, 10)], "b": [SetTimer(KEY, 20)]})
    shell.post("a")
    queue.at(5, lambda _: queue.at(20, shell.post, "x"), None)
    queue.at(6, shell.post, "b")
    queue.run_until(100)
    assert log[-2:] == [(20, "x"), (20, TimerFired(KEY))]


def test_a_frozen_shell_takes_its_mail_in_order_at_the_thaw() -> None:
    queue = EventQueue()
    shell, log = _shell(queue, {"a": [SetTimer(KEY, 10)], "c": [ClearTimer(KEY)]})
    shell.post("a")
    shell.freeze()
    queue.at(5, shell.post, "b")
    queue.at(12, shell.post, "c")
    queue.run_until(50)
    assert log == [(0, "a")]
    shell.thaw()
    assert log[1:] == [(50, "b"), (50, TimerFired(KEY)), (50, "c")]


def test_a_closed_shell_takes_nothing() -> None:
    queue = EventQueue()
    shell, log = _shell(queue, {"a": [SetTimer(KEY, 10)]})
    shell.post("a")
    shell.close()
    shell.post("b")
    queue.run_until(50)
    assert log == [(0, "a")]


def test_the_virtual_loop_keeps_order_and_nanoseconds() -> None:
    loop, seen = VirtualLoop(), []
    scheduler = LoopScheduler(loop)
    for name in "abc":
        scheduler.at(3_000_000_007, lambda n: seen.append((n, scheduler.now_ns)), name)
    scheduler.at(3_000_000_006, lambda n: seen.append((n, scheduler.now_ns)), "first")
    scheduler.at(4_000_000_000, lambda _: loop.stop(), None)
    loop.run_forever()
    loop.close()
    assert seen == [("first", 3_000_000_006), *((name, 3_000_000_007) for name in "abc")]
