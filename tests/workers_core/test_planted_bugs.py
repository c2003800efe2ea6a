"""Each planted bug is found by the fleet's tests: they do see what they claim to."""

from dataclasses import replace
from typing import Any

import pytest
import test_random_orders
from splitweave.workers.core import sequence
from splitweave.workers.core.blocks import BlockPool
from splitweave.workers.core.copies import CopyDesk
from splitweave.workers.core.holdings import Holdings
from splitweave.workers.core.moves_source import SourceMoves
from splitweave.workers.core.moves_target import TargetMove, TargetMoves
from splitweave.workers.core.requests import Requests
from splitweave.workers.core.source_move import SourceMove


def found(seeds: range = range(250), **play: bool) -> bool:
    """Whether some seed fails."""
    options = {"deaths": False, "cancels": True, **play}
    for seed in seeds:
        try:
            fleet = test_random_orders.play(seed, **options)
            assert all(stream.done for stream in fleet.streams.values())
            fleet.assert_empty()
        except (AssertionError, LookupError):
            return True
    return False


def test_without_a_planted_bug_nothing_is_found() -> None:
    assert not found(range(40))


def test_a_lease_reused_while_its_writer_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    close = TargetMoves._close

    def close_and_free(self: Any, move: Any, now_ns: int) -> None:
        close(self, move, now_ns)
        self._blocks.absolve(move.leased)
        move.leased = ()

    monkeypatch.setattr(TargetMoves, "_close", close_and_free)
    assert found()


def test_a_commit_before_all_copies_landed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TargetMove, "complete", property(lambda self: self.offer is not None))
    assert found()


def test_an_ack_while_copies_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    def aborted(self: Any, event: Any, now_ns: int) -> None:
        move = self._of(event, event.peer)
        if move is not None and not move.ended:
            self._end_aborted(move, event.reason, now_ns)
        if move is not None:
            self._ack(move)

    monkeypatch.setattr(SourceMoves, "aborted", aborted)
    assert found()


def test_blocks_freed_under_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Holdings.remove

    def remove_at_once(self: Any, sequence: Any) -> None:
        sequence.in_flight = False
        remove(self, sequence)

    monkeypatch.setattr(Holdings, "remove", remove_at_once)
    assert found()


def test_a_source_that_decodes_on_in_the_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Holdings.stop

    def stop_not(self: Any, sequence: Any) -> None:
        stop(self, sequence)
        self.resume(sequence)

    monkeypatch.setattr(Holdings, "stop", stop_not)
    assert found()


def test_an_unfinished_block_copied_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = CopyDesk.ahead

    def ahead_too_far(self: Any, move: Any) -> None:
        ahead(self, move)
        if len(move.target_blocks) > move.issued and move.computed_blocks > move.issued:
            self._issue(move, move.computed_blocks)

    monkeypatch.setattr(CopyDesk, "ahead", ahead_too_far)
    assert found()


def test_blocks_found_before_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    admit = Holdings.admit

    def admit_and_publish(self: Any, sequence: Any, hits: Any) -> None:
        admit(self, sequence, hits)
        for block, prefix_hash in zip(sequence.blocks, sequence.hashes, strict=False):
            self.blocks.publish(block, prefix_hash)

    monkeypatch.setattr(Holdings, "admit", admit_and_publish)
    assert found()


def test_hashes_that_ignore_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "chain", lambda parent, tokens: hash(tuple(tokens)))
    init = sequence.Sequence.__init__

    def init_without(self: Any, request: Any, *rest: Any) -> None:
        init(self, replace(request, block_hashes=()), *rest)

    monkeypatch.setattr(sequence.Sequence, "__init__", init_without)
    prompts = iter(range(10_000))

    def same_block_elsewhere(random: Any) -> list[int]:
        return [next(prompts), *range(3), *[5] * 4, *[5] * 4, *[5] * 4, 1]

    monkeypatch.setattr(test_random_orders, "prompt", same_block_elsewhere)
    assert found()


def test_a_finished_request_that_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requests, "tick", lambda self, request_id, now_ns: None)
    assert found()


def test_an_offer_that_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SourceMoves, "_watch_handover", lambda self, move, now_ns: None)
    assert found()


def test_a_quarantine_that_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TargetMoves, "tick", lambda self, move_id, now_ns: None)
    assert found()


def test_a_handover_in_the_middle_of_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    due = SourceMove.handover_due

    def due_in_flight(self: Any, blocks_max: int) -> bool:
        flying, self.sequence.in_flight = self.sequence.in_flight, False
        answer = due(self, blocks_max)
        self.sequence.in_flight = flying
        return answer

    monkeypatch.setattr(SourceMove, "handover_due", due_in_flight)
    assert found()


def test_references_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = BlockPool.hold

    def hold_twice(self: Any, blocks: Any) -> None:
        hold(self, blocks)
        hold(self, blocks)

    monkeypatch.setattr(BlockPool, "hold", hold_twice)
    assert found()
