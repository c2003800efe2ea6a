"""The default policy looks at few pairs and finds the best of all."""

from random import Random

import pytest
from control_plane import BLOCK_TOKENS, MS, info_of, policy_of, view_of
from splitweave.cluster.policy.placement import Candidate, PlacementAsk, blocks_for
from splitweave.cluster.policy.predicted_seconds import Choice, PredictedSeconds
from splitweave.cluster.policy.prefix_ways import holders_of
from splitweave.proto.ids import RequestId
from splitweave.proto.views import Role, Speed

SPEEDS = [Speed(iteration_ns=ms * MS, token_ns=ms * MS / 100) for ms in (5.0, 5.0, 20.0)]
LETTERS = {"p": Role.PREFILL, "d": Role.DECODE, "m": Role.MIXED}


def fleet(dice: Random, cached: bool) -> list[Candidate]:
    """Up to 12 workers, many of them alike, so that there are ties."""
    found = []
    for number in range(dice.randint(1, 12)):
        info = info_of(f"{dice.choice('ppddm')}{number}")
        speed = dice.choice(SPEEDS)
        view = view_of(
            info,
            speed=speed,
            running=dice.choice([0, 0, 3, 9]),
            waiting=dice.choice([0, 0, 5, 500]),
            backlog_tokens=dice.choice([0, 0, 700, 9_000, 90_000]),
        )
        hits = dice.choice([0, 0, 2, 20, 60]) * BLOCK_TOKENS if cached else 0
        behind = dice.choice([0, 0, 3]) * BLOCK_TOKENS if cached else 0
        found.append(
            Candidate(
                info=info,
                view=view,
                role=LETTERS[str(info.key.worker_id)[0]],
                booked_prefills=dice.choice([0, 0, 2]),
                booked_tokens=dice.choice([0, 0, 900]),
                hit_tokens=hits,
                host_hit_tokens=behind,
            )
        )
    dice.shuffle(found)
    return found


def has_room(one: Candidate, ask: PlacementAsk, further: int) -> bool:
    need = blocks_for(ask.known_tokens + further, BLOCK_TOKENS)
    fits = ask.known_tokens + ask.output_tokens_max <= one.info.context_tokens_max
    return need <= one.blocks_available and fits


def takes_prefill(policy: PredictedSeconds, one: Candidate, ask: PlacementAsk) -> bool:
    short = policy._queue_ns(one) <= policy.backlog_ns_max
    return short and one.waiting < policy.waiting_max and has_room(one, ask, 1)


def all_choices(
    policy: PredictedSeconds, ask: PlacementAsk, workers: list[Candidate]
) -> list[Choice]:
    """Every worker by itself and every pair, by the words of the documentation."""
    reserve = min(policy.reserve_tokens, ask.output_tokens_max)
    takers = [one for one in workers if takes_prefill(policy, one, ask)]
    roomy = [one for one in workers if has_room(one, ask, reserve)]
    choices = [
        policy._in_place(one, ask) for one in takers if one in roomy and policy._may_host(one, ask)
    ]
    choices += [
        policy._pair(source, target, ask)
        for source in takers
        for target in roomy
        if source.role is Role.PREFILL and target.role is not Role.PREFILL
    ]
    if not choices and not (any(w.prefills for w in workers) and any(w.decodes for w in workers)):
        choices = [policy._in_place(one, ask) for one in takers if one in roomy]
    return choices


@pytest.mark.parametrize("cached", [False, True])
def test_with_a_shortlist_of_all_the_placement_is_the_best_choice_there_is(cached: bool) -> None:
    stays = hands_off = waits = 0
    for seed in range(400):
        dice = Random(f"{seed}/{cached}")
        workers = fleet(dice, cached)
        policy = policy_of(shortlist=len(workers), in_place_tokens_max=dice.choice([0, 32, 400]))
        tokens = dice.choice([10, 300, 1000])
        ask = PlacementAsk(
            request_id=RequestId("r"), known_tokens=tokens, output_tokens_max=100,
            waited_ns=0, block_tokens=BLOCK_TOKENS, holders=holders_of(workers, len(workers)),
        )  # fmt: skip
        placed = policy.place(ask, workers, 0)
        best = min(all_choices(policy, ask, workers), key=lambda choice: choice.rank, default=None)
        told = None if placed is None else (placed.prefill, placed.decode)
        if best is None:
            assert told is None, f"seed {seed}"
            waits += 1
            continue
        source, target = best.pair
        assert told == (source.key, None if target is None else target.key), f"seed {seed}"
        stays += target is None
        hands_off += target is not None
    assert min(stays, hands_off, waits) > 20, (stays, hands_off, waits)


@pytest.mark.parametrize("cached", [False, True])
def test_the_shortlist_has_those_that_prefill_soonest_and_ties_go_to_lower_ids(
    cached: bool,
) -> None:
    for seed in range(300):
        dice = Random(f"short {seed}/{cached}")
        workers = fleet(dice, cached)
        policy = policy_of(shortlist=3)
        ask = PlacementAsk(
            request_id=RequestId("r"), known_tokens=900, output_tokens_max=100, waited_ns=0,
            block_tokens=BLOCK_TOKENS, holders=holders_of(workers, 3),
        )  # fmt: skip
        found = max(one.hit_tokens + one.host_hit_tokens for one in workers)
        weighed = policy._weighed(workers, ask, found)
        assert [one for _, one in weighed] == [w for w in workers if takes_prefill(policy, w, ask)]
        ranked = sorted((policy._prefilled_ns(one, ask), one.key) for _, one in weighed)
        shortlist = policy._best_sources(weighed, ask, found)
        assert [one.key for one in shortlist] == [key for _, key in ranked[:3]], f"seed {seed}"
