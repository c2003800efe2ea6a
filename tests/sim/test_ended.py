"""What becomes of a stream when it ends: stations on its way, moves, and how it ended."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from ended_requests import MS, move, records, row
from sim_worlds import key
from splitweave.proto.effects import StreamAccount
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.requests import RequestClass
from splitweave.sim.results.ended import Stages, ending_of, row_of
from splitweave.sim.results.records import CLASSES, UNKNOWN, Ending, Records

PREFILL, DECODE, OTHER = key("prefill"), key("decode"), key("other")


@dataclass(kw_only=True)
class Life:
    """A stream that has ended."""

    asked_ns: int = 1
    first_ns: int | None = 5
    last_ns: int | None = 9
    prompt_tokens: int = 10
    tokens: int = 3
    hung_up: bool = False
    request_class: RequestClass = RequestClass.STANDARD
    stages: Stages = field(default_factory=Stages)
    error: RejectCode | None = None
    account: StreamAccount | None = None


def _account(*moves: Any, **changes: Any) -> StreamAccount:
    values: dict[str, Any] = {
        "workers": (PREFILL, DECODE), "moves": moves, "downtimes_ns": (), "prompt_tokens": 10,
        "cached_tokens": 8, "output_tokens": 3, "attempts": 2, "arrived_ns": 0,
        "first_token_ns": 5, "last_token_ns": 9, "cached_host_tokens": 4, "cached_peer_tokens": 3,
    }  # fmt: skip
    return StreamAccount(**(values | changes))


# ---- stations


def test_a_prefill_begins_with_its_first_chunk_and_is_computed_with_its_last() -> None:
    stages = Stages()
    stages.place(3)
    stages.compute(10, 20, draws=False)
    stages.compute(20, 30, draws=True)
    assert (stages.placed_ns, stages.began_ns, stages.computed_ns) == (3, 10, 30)


def test_another_placement_starts_the_stations_anew() -> None:
    stages = Stages()
    stages.place(3)
    stages.compute(10, 20, draws=True)
    stages.place(50)
    assert (stages.placed_ns, stages.began_ns, stages.computed_ns) == (50, UNKNOWN, UNKNOWN)


# ---- endings


@pytest.mark.parametrize(
    ("life", "ending"),
    [
        (Life(), Ending.COMPLETED),
        (Life(hung_up=True), Ending.CANCELLED),
        (Life(hung_up=True, error=RejectCode.UNAVAILABLE), Ending.CANCELLED),
        (Life(error=RejectCode.RESOURCE_EXHAUSTED), Ending.REJECTED),
        (Life(error=RejectCode.DEADLINE_EXCEEDED), Ending.FAILED),
        (Life(error=RejectCode.UNAVAILABLE), Ending.FAILED),
    ],
)
def test_how_a_stream_ended_for_its_client(life: Life, ending: Ending) -> None:
    assert ending_of(life) is ending


# ---- rows


def test_a_row_of_a_stream_that_never_got_anywhere_is_unknown_and_zero() -> None:
    life = Life(first_ns=None, last_ns=None, tokens=0, error=RejectCode.RESOURCE_EXHAUSTED)
    made = row_of(life, Ending.REJECTED, Records())
    times = (made.placed_ns, made.began_ns, made.computed_ns, made.first_ns, made.last_ns)
    assert set(times) == {UNKNOWN}
    assert (made.source, made.target) == (UNKNOWN, UNKNOWN)
    assert (made.attempts, made.cached_tokens, made.transfer_bytes) == (0, 0, 0)
    assert made.asked_ns == 1


def test_a_row_carries_cache_workers_and_class() -> None:
    book = Records()
    life = Life(account=_account(), request_class=RequestClass.BATCH)
    made = row_of(life, Ending.COMPLETED, book)
    assert (made.cached_tokens, made.cached_host_tokens, made.cached_peer_tokens) == (8, 4, 3)
    assert CLASSES[made.request_class] is RequestClass.BATCH
    assert book.workers == {"prefill": 0, "decode": 1}
    assert (made.source, made.target, made.attempts) == (0, 1, 2)


def test_the_time_of_moves_counts_those_that_carried_the_request() -> None:
    account = _account(
        move(MoveKind.FETCH, OTHER, PREFILL),
        move(MoveKind.HANDOFF, PREFILL, DECODE),
        move(MoveKind.MIGRATION, DECODE, OTHER, outcome=Stage.ABORTED),
        move(MoveKind.MIGRATION, DECODE, OTHER),
    )
    made = row_of(Life(account=account), Ending.COMPLETED, Records())
    assert made.fetch_ns == 10 * MS
    assert made.transfer_ns == 2 * 10 * MS
    assert made.exposed_ns == 2 * 3 * MS
    assert made.transfer_bytes == 4 * 100  # what was sent was sent
    assert made.migrations == 1


# ---- records


def test_moves_are_tallied_by_kind_and_downtimes_go_to_the_committed_in_order() -> None:
    book = Records()
    book.note_moves(
        _account(
            move(MoveKind.FETCH, OTHER, PREFILL),
            move(MoveKind.MIGRATION, DECODE, OTHER, outcome=Stage.ABORTED),
            move(MoveKind.MIGRATION, DECODE, OTHER),
            downtimes_ns=(0, 7),
        )
    )
    fetches, migrations = book.moves[MoveKind.FETCH], book.moves[MoveKind.MIGRATION]
    assert (fetches.committed, list(fetches.downtimes_ns)) == (1, [0])
    assert (migrations.committed, migrations.aborted) == (1, 1)
    assert (migrations.transfer_bytes, migrations.hidden_bytes) == (200, 120)
    assert list(migrations.downtimes_ns) == [7]
    assert book.moves[MoveKind.HANDOFF].committed == 0


def test_columns_come_back_as_they_were_put_in() -> None:
    first = row(1, 2, 3, 4, 5, 6, prompt_tokens=100_000, attempts=3, ending=Ending.FAILED)
    second = row(0, migrations=2, transfer_bytes=1 << 40)
    book = records(first, second)
    for name in first._fields:
        assert book.column(name).tolist() == [getattr(first, name), getattr(second, name)]
    assert [dict(book.by_arrival())[name] for name in ("r0", "r1")] == [first, second]  # type: ignore[index]
    assert len(book) == 2


def test_requests_that_arrived_together_stay_in_the_order_of_their_ends() -> None:
    book = records(row(5), row(5), row(1))
    assert [name for name, _ in book.by_arrival()] == ["r2", "r0", "r1"]


def test_workers_are_numbered_once() -> None:
    book = Records()
    assert book.number([PREFILL, DECODE]) == (0, 1)
    assert book.number([DECODE, OTHER, PREFILL]) == (1, 0)  # who was between is not asked
    assert book.number([]) == (UNKNOWN, UNKNOWN)
    assert list(book.workers) == ["prefill", "decode"]
