"""Letters that are kept until their move has gone on."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, world_of
from splitweave.sim.coverage import FAULTS, SOURCE, Coverage
from splitweave.sim.faults import LateLetter
from splitweave.sim.inject import Injector
from splitweave.sim.observer import HalfChanged, Observer
from splitweave.sim.plan import LETTERS, draw_plan
from splitweave.sim.scenario import FaultSpec, load_scenario
from splitweave.workers.core.halves import Half, Side

S = 1_000_000_000


class Late:
    """A calm world, but for letters of one kind; what its workers' halves go through."""

    def __init__(self, kind: str, *, changes: int, letters: int = 1, for_ns: int = 9 * S) -> None:
        calm = replace(load_scenario(EXAMPLES / "faults.toml"), faults=FaultSpec())
        self.coverage = Coverage()
        observer = Observer(self.coverage)
        self.world, self.run, self.queue = world_of(calm, observer=observer)
        self.changes: list[HalfChanged] = []
        observer.listeners.append(self.changes.append)
        fault = LateLetter(at_ns=0, for_ns=for_ns, kind=kind, changes=changes, letters=letters)
        self.injector = Injector(self.world, [fault])

    def finish(self) -> dict[Any, int]:
        self.queue.run_until(60 * S)
        self.run.judge_end()
        return self.coverage.table(SOURCE)


def test_a_letter_comes_after_as_many_changes_of_its_move_as_the_fault_says() -> None:
    """The first word of a commit comes when a later one has ended the move at its source."""
    late = Late("MoveCommitted", changes=1)
    taken = late.finish()
    assert taken["MoveCommitted", "ended"] >= 1
    assert late.coverage.table(FAULTS) == {("LateLetter", "begun"): 1}
    ends = [c.half for c in late.changes if c.side is Side.SOURCE and c.half is Half.ENDED]
    assert len(ends) == sum(c.half is Half.RESERVE for c in late.changes)


@pytest.mark.parametrize("letters", [1, 3])
def test_as_many_letters_as_it_says_are_kept_and_no_more(letters: int) -> None:
    late = Late("LeaseAsked", changes=99, letters=letters, for_ns=S)
    late.queue.run_until(S)
    kept: Any = late.injector._letters
    assert len(kept._kept) == letters
    late.finish()


def test_a_move_that_does_not_go_on_gets_its_letter_in_the_end() -> None:
    late = Late("LeaseOpened", changes=99, for_ns=S // 100)
    assert late.finish()["LeaseOpened", "reserve"] > 5


@pytest.mark.parametrize("kept", [0, 1])
def test_the_heal_delivers_what_is_kept_and_keeps_nothing_more(kept: int) -> None:
    late = Late("RequestAssigned", changes=99, letters=5, for_ns=90 * S)
    late.queue.run_until(kept * S)
    letters: Any = late.injector._letters
    assert bool(letters._kept) == bool(kept)
    late.injector.heal()
    assert letters._kept == []
    late.finish()


def test_every_kind_of_letter_to_a_worker_about_a_move_is_drawn_sometime() -> None:
    spec = FaultSpec(until_s=5.0, late_letters=400)
    plan = [fault for seed in range(5) for fault in draw_plan(spec, seed, [], [0])]
    kinds = {fault.kind for fault in plan if isinstance(fault, LateLetter)}
    assert kinds == set(LETTERS)
    assert {"LeaseRefused", "RequestAssigned", "GatewayLost", "ListenerChanged"} <= kinds
