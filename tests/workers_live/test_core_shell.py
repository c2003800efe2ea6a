"""A core in real time: its timers, its order of steps, its end."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from splitweave.workers.live.core_shell import CoreShell

MS = 1_000_000
WAIT_S = 60.0
A, B, C = TimerKey("a"), TimerKey("b"), TimerKey("c", "subject")
Script = Callable[[Any, int], Sequence[Any]]


class Scripted:
    """A shell around a core that answers each event from a script, and remembers all."""

    def __init__(self, script: Script = lambda event, now_ns: ()) -> None:
        self.events: list[Any] = []
        self.times_ns: list[int] = []
        self.performed: list[Any] = []
        self.threads: set[int] = set()
        self._script = script
        self._waiting: list[tuple[Any, asyncio.Event]] = []
        self.shell = CoreShell(self._step, self.performed.append, self)
        self.recorded: list[tuple[int, Any, Sequence[Any]]] = []

    def _step(self, event: Any, now_ns: int) -> Sequence[Any]:
        self.events.append(event)
        self.times_ns.append(now_ns)
        self.threads.add(threading.get_ident())
        for wanted, found in self._waiting:
            if event == wanted:
                found.set()
        return self._script(event, now_ns)

    def record(self, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
        self.recorded.append((now_ns, event, effects))

    async def reach(self, event: Any) -> None:
        """Until the core has stepped `event`."""
        found = asyncio.Event()
        self._waiting.append((event, found))
        if event in self.events:
            return
        await asyncio.wait_for(found.wait(), WAIT_S)

    def fired(self, key: TimerKey) -> int:
        return self.events.count(TimerFired(key))


def on(answers: dict[Any, Callable[[int], Sequence[Any]]]) -> Script:
    """A script: for each event, effects from the time of its step."""
    return lambda event, now_ns: answers.get(event, lambda _: ())(now_ns)


async def test_a_timer_fires_once_and_not_before_its_time() -> None:
    core = Scripted(
        on(
            {
                "start": lambda now: [SetTimer(A, now + 20 * MS)],
                TimerFired(A): lambda now: [SetTimer(B, now + 40 * MS)],
            }
        )
    )
    core.shell.post("start")
    await core.reach(TimerFired(B))
    assert core.events == ["start", TimerFired(A), TimerFired(B)]
    # The loop's clock rounds to its resolution, which is far below a tenth of this.
    assert core.times_ns[1] - core.times_ns[0] >= 19 * MS


async def test_timers_fire_in_the_order_of_their_times_and_not_of_their_setting() -> None:
    due = [(C, 30), (A, 10), (B, 20)]
    core = Scripted(on({"start": lambda now: [SetTimer(key, now + ms * MS) for key, ms in due]}))
    core.shell.post("start")
    await core.reach(TimerFired(C))
    assert core.events[1:] == [TimerFired(A), TimerFired(B), TimerFired(C)]


async def test_a_timer_set_again_moves_later_and_fires_once() -> None:
    core = Scripted(
        on(
            {
                "start": lambda now: [SetTimer(A, now + 5 * MS), SetTimer(A, now + 40 * MS)],
                TimerFired(A): lambda now: [SetTimer(B, now + 10 * MS)],
            }
        )
    )
    core.shell.post("start")
    await core.reach(TimerFired(B))
    assert core.fired(A) == 1
    assert core.times_ns[1] - core.times_ns[0] >= 39 * MS


async def test_a_timer_set_again_moves_earlier_too() -> None:
    core = Scripted(
        on({"start": lambda now: [SetTimer(A, now + 3_600_000 * MS), SetTimer(A, now + MS)]})
    )
    core.shell.post("start")
    await core.reach(TimerFired(A))


async def test_a_cleared_timer_never_fires() -> None:
    """B is set after A and falls due after it: when B fires, A's time has passed."""
    core = Scripted(
        on(
            {
                "start": lambda now: [SetTimer(A, now + 5 * MS), SetTimer(B, now + 30 * MS)],
                "clear": lambda now: [ClearTimer(A), ClearTimer(C)],
            }
        )
    )
    core.shell.post("start")
    core.shell.post("clear")
    await core.reach(TimerFired(B))
    assert core.fired(A) == 0


async def test_a_timer_that_is_due_together_with_its_clearing_does_not_fire() -> None:
    """The core has cleared it: that the loop had both ready must not matter."""
    core = Scripted(
        on(
            {
                "start": lambda now: [SetTimer(A, now), SetTimer(B, now), SetTimer(C, now + MS)],
                TimerFired(A): lambda now: [ClearTimer(B)],
            }
        )
    )
    core.shell.post("start")
    await core.reach(TimerFired(C))
    assert core.events[1:] == [TimerFired(A), TimerFired(C)]


async def test_a_timer_in_the_past_fires_after_the_step_and_not_inside_it() -> None:
    core = Scripted(on({"start": lambda now: [SetTimer(A, now - 1_000 * MS), "effect"]}))
    core.shell.post("start")
    assert core.events == ["start"]
    assert core.performed == ["effect"]
    await core.reach(TimerFired(A))


async def test_effects_are_performed_in_order_and_recorded_as_given() -> None:
    effects = ["x", SetTimer(A, 0), "y", ClearTimer(A), "z"]
    core = Scripted(on({"go": lambda now: effects}))
    core.shell.post("go")
    assert core.performed == ["x", "y", "z"]
    assert core.recorded == [(core.times_ns[0], "go", effects)]


async def test_posts_from_threads_are_stepped_on_the_loop_each_once_and_in_its_threads_order() -> (
    None
):
    core = Scripted()

    def post_all(name: str) -> None:
        for number in range(200):
            core.shell.post_threadsafe((name, number))

    names = "pqrs"
    posters = [threading.Thread(target=post_all, args=(name,)) for name in names]
    for thread in posters:
        thread.start()
    for name in names:
        await core.reach((name, 199))
    assert core.threads == {threading.get_ident()}
    for name in names:
        numbers = [number for poster, number in core.events if poster == name]
        assert numbers == list(range(200))


async def test_times_of_steps_never_fall() -> None:
    core = Scripted()
    for number in range(1000):
        core.shell.post(number)
    assert core.times_ns == sorted(core.times_ns)
    assert core.times_ns[-1] <= time.monotonic_ns()


async def test_a_closed_shell_steps_nothing_more() -> None:
    core = Scripted(on({"start": lambda now: [SetTimer(A, now), SetTimer(B, now + MS)]}))
    core.shell.post("start")
    core.shell.post_threadsafe("on its way")
    core.shell.close()
    core.shell.post("late")
    core.shell.post_threadsafe("late")
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, later.set_result, None)  # behind both timers
    await asyncio.wait_for(later, WAIT_S)
    assert core.events == ["start"]


async def test_a_step_that_closes_the_shell_leaves_no_timer_behind() -> None:
    core = Scripted(on({"last": lambda now: [SetTimer(A, now + 5 * MS), "close"]}))
    core.shell._perform = lambda effect: core.shell.close()
    core.shell.post("last")
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, later.set_result, None)
    await asyncio.wait_for(later, WAIT_S)
    assert core.events == ["last"]


def test_a_post_after_the_loop_has_closed_is_dropped() -> None:
    loop = asyncio.new_event_loop()

    async def make() -> Scripted:
        return Scripted()

    core = loop.run_until_complete(make())
    loop.close()
    core.shell.post_threadsafe("late")
    assert core.events == []


async def test_an_error_of_the_core_reaches_the_loops_handler_and_no_effect_is_performed() -> None:
    """The worker's loop ends the process on it: here the handler is the test's."""
    loop, seen = asyncio.get_running_loop(), asyncio.Event()
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, context: (errors.append(context), seen.set()))

    def fail(event: Any, now_ns: int) -> Sequence[Any]:
        raise AssertionError("broken core")

    core = Scripted(fail)
    core.shell.post_threadsafe("x")
    await asyncio.wait_for(seen.wait(), WAIT_S)
    loop.set_exception_handler(None)
    assert str(errors[0]["exception"]) == "broken core"
    assert core.performed == []


@pytest.mark.parametrize("closed", [True, False])
async def test_a_shell_without_a_recorder_steps_alike(closed: bool) -> None:
    seen: list[Any] = []
    shell = CoreShell(lambda event, now_ns: seen.append(event) or (), seen.append)
    if closed:
        shell.close()
        shell.close()
    shell.post("x")
    assert seen == ([] if closed else ["x"])
