"""Copies that an iteration carries along, and handoffs."""

from dataclasses import replace
from typing import Any

import pytest
from parts import LIMITS
from solo import Solo, handoff_of
from source_stages import (
    ABORTED,
    COMMITTED,
    outcome,
)
from splitweave.proto.requests import FinishReason
from splitweave.proto.worker_events import (
    HandoverOffered,
    LeaseAsked,
    MoveAborted,
    RequestAssigned,
    RequestCancelled,
)
from splitweave.workers.core import WorkerLimits

# ---- copies of an iteration


def prefilling(limits: WorkerLimits = LIMITS, **more: Any) -> Solo:
    """A handoff whose lease opens during the first of three chunks."""
    solo = Solo(limits)
    solo.assign("r", 40, 9, handoff=handoff_of("r"), **more)
    return solo


def test_a_handoff_asks_as_its_request_begins() -> None:
    solo = prefilling()
    assert [event.blocks for event in solo.sent(LeaseAsked)] == [11]


def test_a_request_next_in_line_asks_while_another_runs() -> None:
    solo = Solo()
    solo.assign("q", 5)
    solo.assign("r", 5, handoff=handoff_of("r", "m1"))
    assert [event.move_id for event in solo.sent(LeaseAsked)] == ["m1"]
    solo.assign("s", 5, handoff=handoff_of("s", "m2"))
    assert solo.sent(LeaseAsked) == []
    solo.iterate()
    assert [event.move_id for event in solo.sent(LeaseAsked)] == ["m2"]


def test_a_request_that_cannot_begin_does_not_ask_yet() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 5, handoff=handoff_of("r"))
    assert solo.sent(LeaseAsked) == []


def test_prefill_copies_layers_while_it_computes() -> None:
    solo = prefilling()
    solo.open_lease(11)
    solo.iterate()
    assert [copy.target_blocks for copy in solo.copies] == [(100, 101, 102, 103)]
    spans = [(c.first_layer, c.last_layer, c.target_blocks) for c in solo.iteration_copies]
    assert spans == [(0, 2, (104, 105, 106, 107)), (2, 4, (104, 105, 106, 107))]
    solo.iterate()
    spans = [(c.first_layer, c.last_layer, c.target_blocks) for c in solo.iteration_copies]
    assert spans == [(0, 2, (108, 109)), (2, 4, (108, 109))]


@pytest.mark.parametrize(("group", "spans"), [(1, 4), (3, 2), (4, 1), (9, 1)])
def test_layer_groups_cover_all_layers_once(group: int, spans: int) -> None:
    solo = prefilling(replace(LIMITS, layer_group=group))
    solo.open_lease(11)
    solo.iterate()
    copies = solo.iteration_copies
    assert len(copies) == spans
    assert [n for c in copies for n in range(c.first_layer, c.last_layer)] == [0, 1, 2, 3]


def test_the_last_chunk_brings_the_unfinished_block_along() -> None:
    solo = Solo()
    solo.assign("r", 34, 9, handoff=handoff_of("r"))
    solo.open_lease(9)
    solo.iterate(2)
    assert solo.iteration_copies[0].target_blocks == (108,)


def test_a_migration_leaves_the_unfinished_block_for_the_handover() -> None:
    solo = Solo()
    solo.assign("r", 34, 9)
    solo.migrate("r")
    solo.open_lease(9)
    solo.iterate(2)
    assert solo.iteration_copies == ()


@pytest.mark.parametrize(
    ("bytes_min", "spans"), [(1, 4), (99, 4), (100, 4), (101, 2), (200, 2), (201, 2), (301, 1)]
)
def test_layers_are_grouped_until_a_copy_is_worth_a_message(bytes_min: int, spans: int) -> None:
    """A layer of the chunk's four blocks weighs 100 bytes."""
    solo = prefilling(replace(LIMITS, layer_group=1, copy_bytes_min=bytes_min))
    solo.open_lease(11)
    solo.iterate()
    copies = solo.iteration_copies
    assert len(copies) == spans
    assert [n for c in copies for n in range(c.first_layer, c.last_layer)] == [0, 1, 2, 3]


def test_the_last_chunk_takes_along_all_that_waits_however_much_is_in_flight() -> None:
    """What it left would be copied when nothing is computed beside it."""
    solo = prefilling(replace(LIMITS, copies_in_flight_max=1, copy_blocks_max=1))
    solo.open_lease(11)
    solo.iterate(2)
    covered = [n for copy in solo.iteration_copies for n in copy.target_blocks]
    assert sorted(set(covered)) == list(range(101, 110))


def test_a_copy_that_rides_on_a_long_iteration_is_not_late() -> None:
    solo = prefilling()
    solo.open_lease(11)
    solo.send_copies(solo.copies)
    solo.iterate()
    assert solo.iteration_copies
    for _ in range(3 * LIMITS.copy_ns // LIMITS.lease_ask_ns):
        solo.fire("source_move", "m1", after_ns=LIMITS.lease_ask_ns)
        assert solo.sent(MoveAborted) == []


def test_an_iteration_copies_nothing_while_much_is_in_flight() -> None:
    solo = prefilling(replace(LIMITS, copies_in_flight_max=1, copy_blocks_max=1))
    solo.open_lease(11)
    solo.iterate()
    assert len(solo.copies) == 1
    assert solo.iteration_copies == ()


def test_a_handoff_stops_with_its_first_token() -> None:
    solo = prefilling()
    solo.open_lease(11)
    solo.iterate(3)
    assert solo.phase("r") == "handover"
    offer = solo.sent(HandoverOffered)[0]
    assert (len(offer.emitted), offer.computed) == (1, 40)
    assert offer.copies == ("m1/1.0", "m1/1.1", "m1/1.2", "m1/1.3", "m1/1.4")
    assert [chunk.first_index for chunk in solo.chunks] == [0]
    assert solo.batch == {}


def test_a_handoff_whose_lease_comes_late_decodes_on_and_then_moves() -> None:
    solo = prefilling()
    solo.iterate(5)
    assert solo.held("r").output_tokens == 3
    solo.open_lease(12)
    copies = solo.copies
    assert len(copies) == 3
    solo.iterate()
    assert solo.phase("r") == "decode"
    solo.send_copies(copies)
    solo.iterate()
    assert solo.phase("r") == "handover"


def test_a_request_that_ends_with_its_first_token_is_not_handed_off() -> None:
    solo = Solo()
    solo.assign("r", 5, 1, handoff=handoff_of("r"))
    solo.open_lease(2)
    solo.iterate()
    assert outcome(solo) == [("aborted", "finished")]
    assert [chunk.finish for chunk in solo.chunks] == [FinishReason.LENGTH]


def test_a_waiting_request_is_moved_without_a_copy() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 12)
    solo.migrate("r")
    solo.open_lease(4)
    offer = solo.sent(HandoverOffered)[0]
    assert (offer.emitted, offer.computed, offer.copies) == ((), 0, ())
    solo.step(COMMITTED)
    assert solo.phase("r") is None


def test_a_waiting_request_waits_again_after_an_aborted_handover() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 12)
    solo.migrate("r")
    solo.open_lease(4)
    solo.step(ABORTED)
    assert solo.phase("r") == "waiting"


@pytest.mark.parametrize("event", [COMMITTED, ABORTED])
def test_a_double_of_the_assignment_is_ignored_while_copies_of_its_move_are_in_flight(
    event: Any,
) -> None:
    """The move is over and the request gone; the copies' ends are still to come."""
    solo = Solo()
    order = handoff_of("r")
    request = solo.assign("r", 10, handoff=order)
    solo.open_lease(16)
    solo.iterate()
    copies = solo.copies
    assert copies
    assert solo.phase("r") == "handover"
    solo.step(event)
    solo.step(RequestCancelled(request_id=request.request_id))
    assert solo.step(RequestAssigned(request=request, handoff=order)) == []
    solo.send_copies(copies)
    if solo.running:
        solo.iterate()
    assert solo.view.requests == ()
    assert solo.view.blocks_held == 0
