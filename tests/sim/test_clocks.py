"""Machines whose clocks disagree: exact to the nanosecond, and no core minds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_worlds import EXAMPLES, scenario
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from splitweave.sim.campaign import run_seed
from splitweave.sim.local_clock import TRUE, LocalClock, draw_clock
from splitweave.sim.queue import EventQueue
from splitweave.sim.run import simulate
from splitweave.sim.scenario import load_scenario
from splitweave.sim.shell import QueueShell

TIMER = TimerKey("t")
CLOCKS = st.builds(
    LocalClock, offset_ns=st.integers(0, 10**15), drift_ppm=st.integers(-200_000, 200_000)
)


def test_without_skew_every_clock_is_true() -> None:
    assert draw_clock("w", 1, 0.0, 0.0) == TRUE
    assert TRUE.local(123) == TRUE.true(123) == 123


@given(CLOCKS, st.integers(0, 10**12))
def test_an_instant_of_a_clock_is_the_first_at_which_it_shows_that_much(
    clock: LocalClock, after_ns: int
) -> None:
    wanted = clock.local(0) + after_ns
    true_ns = clock.true(wanted)
    assert clock.local(true_ns) >= wanted
    assert clock.local(true_ns - 1) < wanted


@given(CLOCKS, st.integers(0, 10**12), st.integers(1, 10**9))
def test_a_clock_never_goes_back(clock: LocalClock, at_ns: int, more_ns: int) -> None:
    assert clock.local(at_ns + more_ns) >= clock.local(at_ns)


def test_each_life_of_each_party_has_a_clock_of_its_own() -> None:
    clocks = {draw_clock(name, 5, 10.0, 0.05) for name in ("a#1", "a#2", "controller#1")}
    assert len(clocks) == 3
    assert all(0 <= clock.offset_ns <= 10**10 for clock in clocks)
    assert all(abs(clock.drift_ppm) <= 50_000 for clock in clocks)


@pytest.mark.parametrize("clock", [LocalClock(1000, 0), LocalClock(5, 100_000), TRUE])
def test_a_timer_fires_when_the_partys_own_clock_says_so(clock: LocalClock) -> None:
    queue, seen = EventQueue(), []

    def step(event: Any, now_ns: int) -> Any:
        seen.append((type(event).__name__, now_ns))
        if event == "go":
            return [SetTimer(TIMER, now_ns + 700), SetTimer(TimerKey("u"), now_ns + 9)]
        return [ClearTimer(TIMER)] if event == TimerFired(TimerKey("never")) else []

    shell = QueueShell(queue, step, lambda effect: None, None)
    shell.set_clock(clock)
    queue.run_until(300)
    shell.post("go")
    queue.run_until(5000)
    began_ns = clock.local(300)
    assert [kind for kind, _ in seen] == ["str", "TimerFired", "TimerFired"]
    assert [at_ns - began_ns for _, at_ns in seen] == [0, 9, 700]
    assert shell.now_ns == clock.local(5000)


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_breaks_where_no_two_clocks_agree(seed: int) -> None:
    given_ = load_scenario(EXAMPLES / "faults.toml")
    skewed = replace(given_.faults, clock_offset_s=1e6, clock_drift=0.05)
    assert run_seed(replace(given_, faults=skewed), seed).error == ""


def test_an_offset_alone_changes_nothing_that_a_client_sees() -> None:
    """Nobody compares instants of two machines, or this would differ."""
    seen = []
    for offset_s in (0.0, 12345.0):
        given_ = scenario()
        outcome = simulate(replace(given_, faults=replace(given_.faults, clock_offset_s=offset_s)))
        streams = outcome.world.clients.streams.values()
        seen.append([(s.request_id, s.tokens, s.first_ns, s.last_ns) for s in streams])
    assert seen[0] == seen[1]
