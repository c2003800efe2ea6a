"""What the simulator is for: one policy, topology or cache against another, same arrivals."""

from typing import Any

import pytest
from sim_worlds import poisson, pool, scenario, simulate_in_turn
from splitweave.sim.metrics import Metrics, measure
from splitweave.sim.run import simulate

FAST = {"kind": "affine", "iteration_us": 4000, "token_us": 20}
SLOW = {"kind": "affine", "iteration_us": 24000, "token_us": 120}
# A model whose KV is large: 64 KiB a token, so that moving it takes time.
HEAVY = {"layers": 16, "hidden": 64, "heads": 16, "kv_heads": 16, "head_dim": 64, "ffn": 128}


def _unlike(seed: int) -> Any:
    """Two mixed workers, one six times as fast and able to carry the load alone."""
    return scenario(
        seed=seed,
        hardware={"fast": FAST, "slow": SLOW},
        pools=[pool("fast", "mixed", hardware="fast"), pool("slow", "mixed", hardware="slow")],
        workload=poisson(12, 150, 400, 20),
        slo={"ttft_s": 0.2, "tpot_s": 0.02},
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_predicted_seconds_beats_turns_on_unlike_workers_in_goodput(seed: int) -> None:
    predicted = measure(simulate(_unlike(seed)))
    in_turn = measure(simulate_in_turn(_unlike(seed)))
    assert predicted.completed == in_turn.completed == 150
    assert predicted.goodput_per_s > 1.5 * in_turn.goodput_per_s
    assert predicted.attainment > in_turn.attainment


def test_on_like_workers_under_light_load_the_policies_are_alike() -> None:
    given = scenario(pools=[pool("m", "mixed", count=2)], workload=poisson(5, 60, 100, 10))
    goodputs = [measure(run(given)).goodput_per_s for run in (simulate, simulate_in_turn)]
    assert goodputs[0] == pytest.approx(goodputs[1], rel=0.05)


def _prefixed(shared: int) -> Metrics:
    given = scenario(
        pools=[pool("m", "mixed", count=2, blocks=1000)],
        workload=poisson(10, 80, 512, 4, shared_prefix_tokens=shared, prefix_groups=2),
    )
    return measure(simulate(given))


def test_a_shared_prefix_is_computed_once_and_cuts_the_ttft() -> None:
    shared, own = _prefixed(480), _prefixed(0)
    assert own.cached_tokens == 0
    # At most two groups on two workers are computed; each later one hits 480 of its tokens.
    assert 480 * (80 - 8) <= shared.cached_tokens <= 480 * (80 - 2)
    assert shared.ttft is not None
    assert own.ttft is not None
    assert shared.ttft.p50_s < 0.6 * own.ttft.p50_s
    assert shared.tpot is not None


def _topology(*roles: str, **changes: Any) -> Metrics:
    """Long prompts and long outputs on one worker of each role."""
    pools = [pool(f"{role}-{n}", role, blocks=2000) for n, role in enumerate(roles)]
    given = scenario(
        pools=pools, workload=poisson(20, 80, 1000, 40),
        limits={"worker": {"batched_tokens_max": 1024, "prefill_chunk_tokens": 1024}}, **changes,
    )  # fmt: skip
    return measure(simulate(given))


def test_disaggregation_keeps_prefills_out_of_the_gaps_between_tokens() -> None:
    apart, together = _topology("prefill", "decode"), _topology("mixed", "mixed")
    assert apart.handoffs.committed == 80
    assert together.handoffs.committed == together.handoffs.aborted == 0
    assert apart.itl is not None
    assert together.itl is not None
    assert apart.itl.max_s < 0.012 < 0.02 < together.itl.p99_s
    assert apart.tpot is not None
    assert together.tpot is not None
    assert apart.tpot.p99_s < together.tpot.p99_s


def test_a_handoff_moves_every_block_of_the_prompt_once() -> None:
    given = scenario(model=HEAVY, workload=poisson(2, 10, 80, 6))
    moves = measure(simulate(given)).handoffs
    block_bytes = 2 * 16 * 16 * 64 * 2 * 16
    assert moves.committed == 10
    assert moves.transfer_bytes == 10 * 5 * block_bytes
    assert moves.hidden_bytes <= moves.transfer_bytes


def _linked(gbytes_per_s: float, **worker: int) -> Metrics:
    pools = [
        pool("prefill", "prefill", link_gbytes_per_s=gbytes_per_s),
        pool("decode", "decode", link_gbytes_per_s=gbytes_per_s),
    ]
    given = scenario(
        model=HEAVY, pools=pools, workload=poisson(2, 20, 400, 6), limits={"worker": worker}
    )
    return measure(simulate(given))


def test_a_thin_link_costs_downtime_and_no_ttft() -> None:
    thin, thick = _linked(1.0), _linked(50.0)
    assert thin.handoffs.downtime is not None
    assert thick.handoffs.downtime is not None
    assert thin.handoffs.downtime.p50_s > thick.handoffs.downtime.p50_s
    assert thin.ttft is not None
    assert thick.ttft is not None
    assert thin.ttft.p50_s == pytest.approx(thick.ttft.p50_s, rel=0.02)


def test_layers_sent_while_computing_hide_more_than_whole_iterations() -> None:
    layered, whole = _linked(4.0, layer_group=2), _linked(4.0, layer_group=16)
    assert layered.handoffs.hidden_bytes > whole.handoffs.hidden_bytes
    assert layered.handoffs.downtime is not None
    assert whole.handoffs.downtime is not None
    assert layered.handoffs.downtime.p50_s < whole.handoffs.downtime.p50_s


def test_a_second_worker_multiplies_goodput_beyond_what_one_can_carry() -> None:
    def goodput(count: int) -> float:
        given = scenario(
            pools=[pool("m", "mixed", count=count)],
            workload=poisson(60, 200, 32, 100),
            slo={"ttft_s": 1.0, "tpot_s": 0.02},
            limits={"worker": {"sequences_max": 16}},
        )
        return measure(simulate(given)).goodput_per_s

    assert goodput(2) > 1.5 * goodput(1)


def test_too_little_memory_is_paid_in_ttft_and_every_request_still_ends() -> None:
    workload = poisson(20, 60, 120, 60)
    runs = [
        measure(simulate(scenario(pools=[pool("m", "mixed", blocks=blocks)], workload=workload)))
        for blocks in (40, 400)
    ]
    scarce, ample = runs
    assert scarce.completed == ample.completed == 60
    assert scarce.ttft is not None
    assert ample.ttft is not None
    assert scarce.ttft.p90_s > 3 * ample.ttft.p90_s
