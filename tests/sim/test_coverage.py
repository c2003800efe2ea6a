"""Coverage: what is counted is what happened; what is called unreachable is never taken."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, key, request, scenario, world_of
from splitweave.proto.ids import MoveId
from splitweave.proto.move import NEXT, MoveKind, MoveOrder, Stage
from splitweave.proto.worker_events import AbortAcked, LeaseAsked
from splitweave.sim.campaign import run_seed
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.coverage import (
    COLUMNS,
    CONTROLLER,
    GATEWAYS,
    REBORN,
    REQUESTS,
    ROWS,
    SOURCE,
    STAGE_OF,
    STAGES,
    TARGET,
    Coverage,
    path,
)
from splitweave.sim.observer import Observer
from splitweave.sim.reachable import NEVER, NEVER_STAGES, impossible, never, pairs, untaken
from splitweave.sim.run import simulate
from splitweave.sim.scenario import load_scenario
from splitweave.sim.transcript import Transcript
from splitweave.workers.core.halves import Half, Side


@pytest.fixture(scope="module")
def calm() -> Coverage:
    """25 handoffs, nothing else."""
    coverage = Coverage()
    assert run_seed(scenario(), 1, coverage=coverage).error == ""
    return coverage


def test_a_calm_run_takes_each_committed_handoff_through_every_stage_once(calm: Coverage) -> None:
    for side in (SOURCE, TARGET):
        stages = calm.table(STAGES[side])
        committed = stages["handover", "committed"]
        assert committed > 15
        assert stages["reserve", "copy"] == stages["copy", "handover"] == committed
        assert ("copy", "aborted") not in stages
        assert stages["copy", "copy"] > 0


def test_both_sides_count_the_same_letters(calm: Coverage) -> None:
    source, target = calm.table(SOURCE), calm.table(TARGET)
    opened = sum(count for (row, _), count in source.items() if row == "LeaseOpened")
    asked = sum(count for (row, _), count in target.items() if row == "LeaseAsked")
    assert opened == asked
    sent = sum(count for (row, _), count in source.items() if row == "CopySent")
    landed = sum(count for (row, _), count in target.items() if row == "BlocksLanded")
    assert sent == landed > 0


def test_requests_workers_and_streams_are_counted_by_their_state(calm: Coverage) -> None:
    assert calm.table(REQUESTS)["RequestAssigned", "not here"] == 25
    assert calm.table(REQUESTS)["StreamAcked", "finished"] == 25
    assert calm.table(CONTROLLER)["WorkerRegistered", "unknown"] == 2
    assert calm.table(GATEWAYS)["GenerateAsked", "unknown"] == 25
    assert calm.table(GATEWAYS)["RequestAccepted", "submitting"] > 0


def test_looking_on_changes_nothing() -> None:
    given = replace(load_scenario(EXAMPLES / "faults.toml"), seed=7)
    digests = []
    for coverage in (None, Coverage()):
        transcript = Transcript()
        simulate(given, transcript=transcript, coverage=coverage)
        digests.append(transcript.digest())
    assert digests[0] == digests[1]


def test_nothing_that_is_called_unreachable_is_taken_in_bad_hours() -> None:
    coverage = Coverage()
    given = load_scenario(EXAMPLES / "faults.toml")
    for seed in range(12):
        assert run_seed(given, seed, coverage=coverage).error == ""
    assert impossible(coverage) == {}
    assert coverage.table(SOURCE)["LeaseOpened", "reserve"] > 100


def test_a_pair_that_should_be_unreachable_is_reported_with_the_tables_reason() -> None:
    coverage = Coverage()
    coverage.count(SOURCE, "CopySent", "reserve")
    coverage.count(TARGET, "NoSuchEvent", "leased")
    found = impossible(coverage)
    assert "no copy before the lease" in found[SOURCE, "CopySent", "reserve"]
    assert found[TARGET, "NoSuchEvent", "leased"] == "stands in no table"
    assert len(found) == 2


def test_what_is_missing_is_what_is_reachable_and_was_not_counted() -> None:
    coverage = Coverage()
    missing = untaken(coverage)
    assert set(missing) == set(pairs()) - never().keys()
    coverage.count(*missing[0])
    assert untaken(coverage) == missing[1:]


def test_the_table_of_the_unreachable_names_only_what_exists_and_nothing_twice() -> None:
    cells: list[Any] = []
    for rule in NEVER:
        assert rule.reason
        assert set(rule.rows) <= set(ROWS[rule.side])
        assert set(rule.columns) <= set(COLUMNS[rule.side])
        cells += [(rule.side, row, column) for row in rule.rows for column in rule.columns]
    assert len(cells) == len(set(cells))
    assert all(end in NEXT[start] for _, start, end in NEVER_STAGES)


def test_every_half_has_a_column_and_every_open_one_a_stage() -> None:
    assert {half for side in Side for half in COLUMNS[side]} == set(Half)
    assert set(Half) - STAGE_OF.keys() == {Half.NONE, Half.ENDED, Half.COMMITTED}


def test_a_path_is_made_of_legal_moves() -> None:
    assert path(Stage.COPY, Stage.COPY) == []
    assert path(Stage.RESERVE, Stage.HANDOVER) == [
        (Stage.RESERVE, Stage.COPY),
        (Stage.COPY, Stage.HANDOVER),
    ]
    assert path(Stage.COPY, Stage.COMMITTED)[-1] == (Stage.HANDOVER, Stage.COMMITTED)
    with pytest.raises(AssertionError, match="no legal way"):
        path(Stage.COMMITTED, Stage.COPY)


def test_counts_add_up() -> None:
    one, two = Coverage(), Coverage()
    for coverage in (one, two, two):
        coverage.count("t", "r", "c")
    one.add(two)
    assert one.table("t") == {("r", "c"): 3}
    assert one.table("other") == {}


def test_a_move_taken_for_new_because_it_was_forgotten_is_counted_apart() -> None:
    """A target that remembers one ended move only; the first one's ask comes again."""
    key_ = key("t")
    given = scenario(limits={"worker": {"ended_moves_max": 1}})
    world = world_of(given)[0]
    info = replace(world.mail.workers[key("decode-0").worker_id].info, key=key_)
    coverage = Coverage()
    observer = Observer(coverage)
    core = CoreBuilder(given).worker(info)
    step, source = observer.worker(core), key("s")
    for now_ns, name in enumerate(("m1", "m2", "m1")):
        order = MoveOrder(
            move_id=MoveId(name), kind=MoveKind.MIGRATION, request_id=request().request_id,
            source=source, target=key_,
        )  # fmt: skip
        observer.learn(order)
        step(
            LeaseAsked(
                move_id=order.move_id, lease=1, kind=order.kind, source=source, request=request(),
                hashes=(), blocks=2,
            ),
            now_ns,
        )  # fmt: skip
        step(AbortAcked(move_id=order.move_id, lease=1, peer=source), now_ns)
    assert coverage.table(TARGET) == {("LeaseAsked", "none"): 3, ("AbortAcked", "leased"): 2}
    assert coverage.table(REBORN[TARGET]) == {("AbortAcked", "leased"): 1}
