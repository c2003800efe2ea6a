"""Where a request goes: what the default policy prefers, and what it never does."""

from typing import Any

import pytest
from control_plane import BLOCK_TOKENS, MS, S, info_of, key, policy_of, view_of
from splitweave.cluster.policy.links import LinkEstimates
from splitweave.cluster.policy.placement import Candidate, MoveAsk, Placement, PlacementAsk
from splitweave.proto.ids import RequestId
from splitweave.proto.views import Role, Speed

FAST = Speed(iteration_ns=5.0 * MS, token_ns=0.05 * MS)
SLOW = Speed(iteration_ns=20.0 * MS, token_ns=0.5 * MS)


def worker(name: str, *, info: dict[str, Any] | None = None, **changes: Any) -> Candidate:
    """`speed` and fields of the view; `hit_tokens` and `booked_*` of the candidate."""
    mine = {k: changes.pop(k) for k in list(changes) if k.startswith(("booked", "hit", "host_hit"))}
    told = info_of(name, **(info or {}))
    return Candidate(info=told, view=view_of(told, **changes), role=told.role, **mine)


def ask(tokens: int = 1000, **changes: Any) -> PlacementAsk:
    values: dict[str, Any] = {
        "request_id": RequestId("r1"),
        "known_tokens": tokens,
        "output_tokens_max": 100,
        "waited_ns": 0,
        "block_tokens": BLOCK_TOKENS,
    }
    return PlacementAsk(**values | changes)


def place(
    *candidates: Candidate, tokens: int = 1000, policy: dict[str, Any] | None = None, **changes: Any
) -> str | None:
    """ "prefill>decode", or one name if it stays, or None."""
    placed = policy_of(**(policy or {})).place(ask(tokens, **changes), candidates, 0)
    if placed is None:
        return None
    where = str(placed.prefill.worker_id)
    return where if placed.decode is None else f"{where}>{placed.decode.worker_id}"


# ---- seconds, not tokens


def test_a_fast_worker_with_a_backlog_beats_a_slow_idle_one() -> None:
    # 1 000 tokens: slow 540 ms; fast 60 ms, and as much again for 1 000 queued before.
    fast = worker("p0", speed=FAST, backlog_tokens=1000)
    assert place(fast, worker("p1", speed=SLOW), worker("d0")) == "p0>d0"


def test_a_slow_idle_worker_beats_a_fast_one_whose_queue_costs_more_seconds() -> None:
    fast = worker("p0", speed=FAST, backlog_tokens=12_000)
    assert place(fast, worker("p1", speed=SLOW), worker("d0")) == "p1>d0"


def test_a_prefix_in_host_memory_counts_with_the_seconds_that_bringing_it_back_takes() -> None:
    quick = Speed(iteration_ns=20.0 * MS, token_ns=0.5 * MS, restore_block_ns=0.1 * MS)
    slow = Speed(iteration_ns=20.0 * MS, token_ns=0.5 * MS, restore_block_ns=1000.0 * MS)
    plain = worker("p0", speed=SLOW)
    # 800 tokens are 50 blocks: back in 5 ms instead of 420 ms of computing.
    assert place(plain, worker("p1", speed=quick, host_hit_tokens=800), worker("d0")) == "p1>d0"
    assert place(plain, worker("p1", speed=slow, host_hit_tokens=800), worker("d0")) == "p0>d0"
    # On the device it costs nothing at all.
    there = worker("p0", speed=quick, hit_tokens=800)
    assert place(there, worker("p1", speed=quick, host_hit_tokens=800), worker("d0")) == "p0>d0"


def placement(*candidates: Candidate, tokens: int = 1000, **policy: Any) -> Placement:
    placed = policy_of(**policy).place(ask(tokens), candidates, 0)
    assert placed is not None
    return placed


def test_a_prefix_is_fetched_where_that_is_quicker_than_computing_it() -> None:
    # The holder queues for seconds; its 800 tokens cross to the idle one in 50 ms (1 GB/s).
    holder = worker("p0", speed=SLOW, hit_tokens=800, backlog_tokens=6000)
    idle = worker("p1", speed=SLOW)
    placed = placement(holder, idle, worker("d0"))
    assert (placed.prefill, placed.fetch, placed.fetch_tokens) == (idle.key, holder.key, 800)
    alone = placement(idle, worker("d0"))
    assert alone.fetch is None
    assert placed.predicted_ttft_ns < alone.predicted_ttft_ns


def test_over_a_slow_link_a_prefix_is_computed() -> None:
    holder = worker("p0", speed=SLOW, hit_tokens=800, backlog_tokens=6000)
    links = LinkEstimates(default_bytes_per_s=1_000.0)
    placed = placement(holder, worker("p1", speed=SLOW), worker("d0"), links=links)
    assert placed.fetch is None


def test_nothing_is_fetched_to_where_it_is_or_for_few_tokens_or_if_that_is_off() -> None:
    holder = worker("p0", speed=SLOW, hit_tokens=800)
    assert placement(holder, worker("d0")).fetch is None
    near = worker("p1", speed=SLOW, hit_tokens=784)
    busy = worker("p0", speed=SLOW, hit_tokens=800, backlog_tokens=6000)
    assert placement(busy, near, worker("d0")).fetch is None
    idle = worker("p1", speed=SLOW)
    assert placement(busy, idle, worker("d0"), fetch_tokens_min=0).fetch is None


def test_the_last_token_is_computed_even_if_all_is_cached_at_a_peer() -> None:
    holder = worker("p0", speed=SLOW, hit_tokens=1024, backlog_tokens=6000)
    placed = placement(holder, worker("p1", speed=SLOW), worker("d0"), tokens=1024)
    assert placed.fetch_tokens == 1008


def test_what_is_copied_arrives_while_the_request_queues() -> None:
    holder = worker("p0", speed=SLOW, hit_tokens=800, backlog_tokens=6000)
    queue = worker("p1", speed=SLOW, backlog_tokens=500)
    pair = (holder.key.worker_id, queue.key.worker_id)
    found = []
    for bytes_per_s in (2e8, 1e9, 1e8):  # 250, 50 and 500 ms; the queue takes 270
        links = LinkEstimates(default_bytes_per_s=1e9, _learned={pair: bytes_per_s})
        found.append(placement(holder, queue, worker("d0"), links=links))
    assert {placed.fetch for placed in found} == {holder.key}
    slow, quick, late = (placed.predicted_ttft_ns for placed in found)
    assert slow == quick < late


def test_a_decode_worker_prefills_in_place_what_a_fetch_leaves_it() -> None:
    holder = worker("p0", speed=SLOW, hit_tokens=992, backlog_tokens=6000)
    decode = worker("d0", speed=SLOW)
    placed = placement(holder, decode)
    assert (placed.prefill, placed.decode, placed.fetch) == (decode.key, None, holder.key)


def test_a_prefix_hit_wins() -> None:
    hit = worker("p1", hit_tokens=800)
    assert place(worker("p0"), hit, worker("d0")) == "p1>d0"


@pytest.mark.parametrize(("queue", "chosen"), [(700, "p1"), (900, "p0")])
def test_a_prefix_hit_wins_unless_its_queue_costs_more_seconds(queue: int, chosen: str) -> None:
    policy = {"chunk_tokens": 10_000, "links": LinkEstimates(default_bytes_per_s=1e12)}
    policy["fetch_tokens_min"] = 0
    hit = worker("p1", hit_tokens=900, backlog_tokens=queue)
    assert place(worker("p0"), hit, worker("d0"), policy=policy) == f"{chosen}>d0"


def test_on_a_slow_link_a_hit_saves_nothing_and_its_queue_decides() -> None:
    # All blocks must cross the link: 630 ms, whether computed or found.
    slow_link = {"links": LinkEstimates(default_bytes_per_s=1e8)}
    hit = worker("p1", hit_tokens=900, backlog_tokens=1)
    assert place(worker("p0"), hit, worker("d0"), policy=slow_link) == "p0>d0"


def test_what_was_placed_since_the_view_counts_like_what_it_shows() -> None:
    booked = worker("p0", booked_tokens=3000, booked_prefills=3)
    assert place(booked, worker("p1", backlog_tokens=2000), worker("d0")) == "p1>d0"


def test_the_decode_worker_with_fewer_streams_is_chosen() -> None:
    busy = worker("d0", running=20)
    booked = worker("d1", booked_streams=10)
    assert place(worker("p0"), busy, booked, worker("d2", running=9)) == "p0>d2"


def test_a_full_fast_decode_worker_beats_an_empty_slow_one() -> None:
    fast = worker("d1", speed=FAST, running=50)
    assert place(worker("p0"), worker("d0", speed=SLOW), fast) == "p0>d1"


def test_a_decode_worker_that_keeps_the_slo_beats_one_that_costs_fewer_seconds() -> None:
    # d0 misses its TPOT; d1 is behind a link that costs more seconds than that.
    policy = policy_of(output_tokens_expected=1)
    policy.links = LinkEstimates(default_bytes_per_s=1e9)
    policy.links._learned[(key("p0").worker_id, key("d1").worker_id)] = 1e8
    missing = worker("d0", speed=Speed(iteration_ns=60.0 * MS, token_ns=0.1 * MS))
    placed = policy.place(ask(), [worker("p0"), missing, worker("d1")], 0)
    assert placed is not None
    assert placed.decode == key("d1")
    assert placed.predicted_tpot_ns < 50 * MS < 60 * MS


def test_time_already_waited_is_part_of_ttft() -> None:
    placed = policy_of().place(ask(waited_ns=3 * S), [worker("m0")], 0)
    assert placed is not None
    # Two chunks: 2 x 10 ms + 1 000 x 0.1 ms.
    assert placed.predicted_ttft_ns == 3 * S + 120 * MS


def test_the_prediction_is_the_formula() -> None:
    policy = policy_of(link_latency_ns=2 * MS)
    source = worker("p0", backlog_tokens=512, running=10)
    placed = policy.place(ask(512), [source, worker("d0", running=4)], 0)
    assert placed is not None
    iteration = 10 * MS + 10 * 0.1 * MS  # each with ten decodes in it
    computed = 2 * iteration + 1024 * 0.1 * MS
    assert placed.predicted_ttft_ns == int(computed + 2 * MS + 1 * MS)  # latency, last block
    assert placed.predicted_tpot_ns == int(10 * MS + 5 * 0.1 * MS)


def test_a_handoff_that_prefill_cannot_hide_costs_its_rest() -> None:
    slow_link = {"links": LinkEstimates(default_bytes_per_s=1e8)}
    placed = policy_of(**slow_link).place(ask(1000), [worker("p0"), worker("d0")], 0)
    assert placed is not None
    # 63 blocks of 1 MB at 100 MB/s take 630 ms; prefill hides 120 ms of them.
    assert placed.predicted_ttft_ns == (120 + 1 + 630 - 120) * MS


def test_blocks_that_the_target_has_need_no_copy() -> None:
    slow_link = {"links": LinkEstimates(default_bytes_per_s=1e8)}
    has_it = worker("d1", hit_tokens=960)
    assert place(worker("p0"), worker("d0"), has_it, policy=slow_link) == "p0>d1"


# ---- where it may stay


def test_a_mixed_worker_keeps_what_it_prefills() -> None:
    assert place(worker("m0")) == "m0"


@pytest.mark.parametrize(
    ("tokens", "hit", "placed"),
    [(32, 0, "d0"), (33, 0, "p0>d0"), (1000, 968, "d0"), (1000, 967, "p0>d0")],
)
def test_a_decode_worker_prefills_only_what_is_short_or_mostly_cached(
    tokens: int, hit: int, placed: str
) -> None:
    candidates = (worker("p0"), worker("d0", hit_tokens=hit))
    assert place(*candidates, tokens=tokens) == placed


def test_in_place_costs_the_streams_that_decode_there() -> None:
    busy = worker("d0", running=60, hit_tokens=70)
    alone = {"fetch_tokens_min": 0}
    assert place(worker("p0"), worker("d1"), busy, tokens=100, policy=alone) == "p0>d1"


def test_zero_in_place_tokens_means_always_a_handoff() -> None:
    policy = {"in_place_tokens_max": 0}
    assert place(worker("p0"), worker("d0"), tokens=1, policy=policy) == "p0>d0"


@pytest.mark.parametrize("names", [("p0", "p1"), ("d0", "d1")])
def test_if_a_pool_is_missing_any_role_does_all_of_it(names: tuple[str, ...]) -> None:
    assert place(*[worker(name) for name in names]) == names[0]


def test_a_pool_that_is_only_full_is_waited_for() -> None:
    full = worker("d0", blocks_held=1000)
    assert place(worker("p0"), full) is None


# ---- memory, context, queues


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"blocks_held": 900}, True),
        ({"blocks_held": 933}, True),  # 67 blocks: 1 000 tokens and 64 reserved
        ({"blocks_held": 934}, False),
        ({"blocks_held": 900, "blocks_cached": 100}, True),  # cached blocks can be evicted
        ({"blocks_held": 900, "booked_blocks": 34}, False),
        ({"blocks_held": 850, "blocks_leased": 50, "booked_blocks": 50}, True),  # leased already
        ({"blocks_held": 850, "blocks_leased": 50, "booked_blocks": 84}, False),
        ({"blocks_held": 900, "backlog_tokens": 16 * 34}, False),  # will need its blocks
        ({"blocks_held": 900, "blocks_quarantined": 34}, False),
    ],
)
def test_room_is_what_is_free_or_cached_less_what_is_booked(
    changes: dict[str, int], fits: bool
) -> None:
    assert (place(worker("m0", **changes)) == "m0") == fits


def test_a_context_too_short_is_never_chosen() -> None:
    short = worker("m0", info={"context_tokens_max": 1099})
    assert place(short) is None
    assert place(short, worker("m1", info={"context_tokens_max": 1100})) == "m1"


@pytest.mark.parametrize(
    "crowded",
    [
        {"backlog_tokens": 40_000},
        {"booked_tokens": 40_000},
        {"waiting": 128},
        {"waiting": 100, "booked_prefills": 28},
    ],
)
def test_a_worker_with_a_long_queue_gets_no_more(crowded: dict[str, int]) -> None:
    assert place(worker("m0", info={"blocks_total": 9000}, **crowded)) is None


def test_no_candidates_is_no_placement() -> None:
    assert place() is None


# ---- order


def test_ties_go_to_the_lower_id_whatever_the_order() -> None:
    candidates = [worker(name) for name in ("p1", "d1", "p0", "d0")]
    assert place(*candidates) == place(*reversed(candidates)) == "p0>d0"


def test_a_prefill_worker_is_no_target_and_a_decode_worker_no_source() -> None:
    idle = worker("p1")
    assert place(worker("p0", backlog_tokens=100), idle, worker("d0", running=40)) == "p1>d0"


def test_the_shortlist_keeps_the_best() -> None:
    policy = {"shortlist": 1}
    workers = [worker(f"p{n}", backlog_tokens=1000 - n) for n in range(5)]
    workers += [worker(f"d{n}", running=9 - n) for n in range(5)]
    assert place(*workers, policy=policy) == "p4>d4"


# ---- targets of migrations


def target(*candidates: Candidate, tokens: int = 1000, source: str = "d0") -> str | None:
    move = MoveAsk(
        request_id=RequestId("r1"),
        source=key(source),
        known_tokens=tokens,
        block_tokens=BLOCK_TOKENS,
    )
    chosen = policy_of().pick_target(move, candidates, 0)
    return None if chosen is None else str(chosen.worker_id)


def test_a_migration_goes_to_the_least_loaded_other_decode_worker() -> None:
    assert target(worker("d0"), worker("d1", running=5), worker("d2", running=4)) == "d2"


def test_a_migration_never_goes_back_to_its_source_or_to_prefill() -> None:
    assert target(worker("d0"), worker("p0")) is None


def test_a_migration_may_go_to_a_mixed_worker() -> None:
    assert target(worker("m0")) == "m0"


@pytest.mark.parametrize(("held", "chosen"), [(937, "d1"), (938, None)])
def test_a_migration_needs_room_for_all_known_tokens_and_one(held: int, chosen: str | None) -> None:
    assert target(worker("d1", blocks_held=held)) == chosen


def test_a_migration_needs_context_left() -> None:
    assert target(worker("d1", info={"context_tokens_max": 1000})) is None


def test_a_slow_link_is_avoided() -> None:
    policy = policy_of()
    policy.links._learned[(key("d0").worker_id, key("d1").worker_id)] = 1e6
    move = MoveAsk(
        request_id=RequestId("r1"), source=key("d0"), known_tokens=1000, block_tokens=BLOCK_TOKENS
    )
    assert policy.pick_target(move, [worker("d1"), worker("d2", running=9)], 0) == key("d2")


def test_a_role_that_was_given_counts_not_the_one_it_was_born_with() -> None:
    born = worker("d1")
    given = Candidate(info=born.info, view=born.view, role=Role.PREFILL)
    assert target(given) is None
