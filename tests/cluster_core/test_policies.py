"""Round robin, the prefix index against a model of it, and what moves teach of links."""

from dataclasses import replace

import pytest
from control_plane import BLOCK_TOKENS, MS, S, info_of, key, order_of, report_of, view_of
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.cluster.policy.links import LinkEstimates
from splitweave.cluster.policy.placement import Candidate, MoveAsk, PlacementAsk
from splitweave.cluster.policy.prefix_index import PrefixIndex
from splitweave.cluster.policy.round_robin import RoundRobin
from splitweave.proto.ids import PrefixHash, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import MoveKind, Stage


def candidates(*names: str, **view: int) -> list[Candidate]:
    infos = [info_of(name) for name in names]
    return [Candidate(info=info, view=view_of(info, **view), role=info.role) for info in infos]


ASK = PlacementAsk(
    request_id=RequestId("r1"),
    known_tokens=100,
    output_tokens_max=50,
    waited_ns=0,
    block_tokens=BLOCK_TOKENS,
)


def placed(policy: RoundRobin, workers: list[Candidate]) -> str:
    placement = policy.place(ASK, workers, 0)
    if placement is None:
        return "-"
    second = "" if placement.decode is None else f">{placement.decode.worker_id}"
    return f"{placement.prefill.worker_id}{second}"


# ---- round robin


def test_round_robin_takes_both_pools_in_turn() -> None:
    policy, workers = RoundRobin(), candidates("d1", "p1", "p0", "d2", "d0")
    turns = [placed(policy, workers) for _ in range(4)]
    assert turns == ["p0>d0", "p1>d1", "p0>d2", "p1>d0"]


def test_round_robin_goes_on_when_a_worker_leaves() -> None:
    policy = RoundRobin()
    assert placed(policy, candidates("m0", "m1", "m2")) == "m0"
    assert placed(policy, candidates("m0", "m2")) == "m2"
    assert placed(policy, candidates("m0", "m1", "m2")) == "m0"


def test_round_robin_skips_the_full() -> None:
    workers = candidates("m0", blocks_held=995) + candidates("m1")
    policy = RoundRobin()
    assert [placed(policy, workers) for _ in range(2)] == ["m1", "m1"]


@pytest.mark.parametrize(
    "workers", [candidates("p0", "d0", blocks_held=995), candidates(), candidates("p0")[:0]]
)
def test_round_robin_places_nothing_where_nothing_fits(workers: list[Candidate]) -> None:
    assert placed(RoundRobin(), workers) == "-"


def test_round_robin_waits_for_a_full_decode_pool() -> None:
    assert placed(RoundRobin(), candidates("p0") + candidates("d0", blocks_held=995)) == "-"


def test_round_robin_without_decode_workers_stays() -> None:
    assert placed(RoundRobin(), candidates("p0")) == "p0"


def test_round_robin_moves_to_the_next_decode_worker_with_room() -> None:
    policy = RoundRobin()
    ask = MoveAsk(
        request_id=RequestId("r1"), source=key("d0"), known_tokens=100, block_tokens=BLOCK_TOKENS
    )
    workers = candidates("d0", "p0", "d1", "d2")
    assert [policy.pick_target(ask, workers, 0) for _ in range(3)] == [
        key("d1"),
        key("d2"),
        key("d1"),
    ]
    assert policy.pick_target(ask, candidates("d0", "p0"), 0) is None


# ---- prefix index

A, B, C = key("a"), key("b"), key("c")


def hashes(*values: int) -> tuple[PrefixHash, ...]:
    return tuple(PrefixHash(value) for value in values)


def index(hashes_max: int = 100) -> PrefixIndex:
    return PrefixIndex(block_tokens=16, hashes_max=hashes_max)


def test_a_hit_is_the_longest_prefix() -> None:
    table = index()
    table.insert(A, hashes(1, 2, 4))
    table.insert(B, hashes(1, 2, 3, 4))
    assert table.hits(hashes(1, 2, 3, 4, 5)) == {A: 32, B: 64}
    assert table.hit_tokens(A, hashes(1, 2, 3, 4, 5)) == 32
    assert table.hits(hashes(2, 3)) == {A: 16, B: 32}
    assert table.hits(hashes(9)) == table.hits(()) == {}
    assert table.hit_tokens(C, hashes(1)) == 0


def test_an_evicted_block_ends_the_hit() -> None:
    table = index()
    table.insert(A, hashes(1, 2, 3))
    table.evict(A, hashes(2, 7))
    table.evict(B, hashes(1))
    assert table.hits(hashes(1, 2, 3)) == {A: 16}


def test_a_removed_worker_leaves_nothing_and_its_slot_is_used_again() -> None:
    table = index()
    table.insert(A, hashes(1, 2))
    table.insert(B, hashes(1))
    table.remove(A)
    table.remove(A)
    table.insert(C, hashes(3))
    assert table.hits(hashes(1, 2)) == {B: 16}
    assert table.hits(hashes(3)) == {C: 16}
    assert len(table) == 2


def test_beyond_the_limit_the_oldest_is_forgotten() -> None:
    table = index(hashes_max=2)
    table.insert(A, hashes(1, 2, 3))
    assert [table.hit_tokens(A, hashes(h)) for h in (1, 2, 3)] == [0, 16, 16]


def test_replacing_keeps_only_the_new() -> None:
    table = index()
    table.insert(A, hashes(1, 2))
    table.replace(A, hashes(2, 3))
    assert table.hits(hashes(1)) == {}
    assert table.hits(hashes(2, 3)) == {A: 32}


BLOCKS = st.lists(st.integers(0, 12), max_size=8)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["insert", "evict", "replace", "remove"]), st.integers(0, 4), BLOCKS),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(changes=CHANGES, asked=BLOCKS)
def test_the_index_equals_a_table_of_sets(
    changes: list[tuple[str, int, list[int]]], asked: list[int]
) -> None:
    table, model = index(), dict[WorkerKey, set[int]]()
    for verb, number, blocks in changes:
        worker = key(f"w{number}")
        mine = model.setdefault(worker, set())
        if verb == "remove":
            table.remove(worker)
            mine.clear()
        else:
            getattr(table, verb)(worker, hashes(*blocks))
            if verb == "replace":
                mine.clear()
            mine.difference_update(blocks) if verb == "evict" else mine.update(blocks)
        table.check()
    want = hashes(*asked)
    expected = {}
    for worker, mine in model.items():
        length = next((i for i, block in enumerate(asked) if block not in mine), len(asked))
        assert table.hit_tokens(worker, want) == 16 * length
        if length:
            expected[worker] = 16 * length
    assert table.hits(want) == expected


# ---- links

P, D = WorkerId("p0"), WorkerId("d0")
MIGRATION = order_of("r1", "p0", "d0", MoveKind.MIGRATION)
HANDOFF = order_of("r1", "p0", "d0", MoveKind.HANDOFF)


def links(**changes: float) -> LinkEstimates:
    return LinkEstimates(**{"default_bytes_per_s": 1e9} | changes)  # type: ignore[arg-type]


def test_an_unknown_link_is_the_default() -> None:
    assert links().bytes_per_s(P, D) == 1e9
    assert links().transfer_ns(P, D, 5e8) == 0.5 * S


def test_the_first_move_is_believed_and_later_ones_are_smoothed() -> None:
    estimates = links(weight=0.5)
    report = report_of(MIGRATION, transfer_bytes=9_000_000, copy_ns=7 * MS, handover_ns=2 * MS)
    estimates.observe(report)
    assert estimates.bytes_per_s(P, D) == pytest.approx(1e9)
    estimates.observe(replace(report, transfer_bytes=4_500_000))
    assert estimates.bytes_per_s(P, D) == pytest.approx(0.75e9)
    assert estimates.bytes_per_s(D, P) == 1e9


def test_of_a_handoff_only_what_prefill_did_not_hide_counts() -> None:
    estimates = links()
    estimates.observe(report_of(HANDOFF))  # 1 MB in 2 ms; 6 MB went while prefill ran
    assert estimates.bytes_per_s(P, D) == pytest.approx(5e8)


@pytest.mark.parametrize(
    "report",
    [
        report_of(MIGRATION, transfer_bytes=4095),
        report_of(MIGRATION, copy_ns=0, handover_ns=0),
        report_of(HANDOFF, hidden_bytes=7_000_000),
        report_of(MIGRATION, Stage.ABORTED, transfer_bytes=0),
    ],
)
def test_a_move_that_says_nothing_of_the_link_teaches_nothing(report: object) -> None:
    estimates = links()
    estimates.observe(report)  # type: ignore[arg-type]
    assert estimates.bytes_per_s(P, D) == 1e9


def test_an_aborted_move_shows_a_slow_link() -> None:
    estimates = links()
    estimates.observe(report_of(MIGRATION, Stage.ABORTED, transfer_bytes=1_000_000, copy_ns=S))
    assert estimates.bytes_per_s(P, D) < 1.1e6


def test_learned_links_are_bounded() -> None:
    estimates = links(links_max=2)
    for name in ("d0", "d1", "d2"):
        estimates.observe(report_of(order_of("r1", "p0", name, MoveKind.MIGRATION)))
    assert estimates.bytes_per_s(P, D) == 1e9
    assert estimates.bytes_per_s(P, WorkerId("d2")) < 1e9
