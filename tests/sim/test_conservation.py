"""Nothing is made or lost between the cores, the engines and the clients."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, poisson, scenario, world_of
from splitweave.proto.move import Stage
from splitweave.proto.worker_events import BlocksLanded, CopyFailed, CopySent, IterationDone
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.faults import Migrate
from splitweave.sim.inject import Injector
from splitweave.sim.metrics import measure
from splitweave.sim.run import simulate
from splitweave.sim.scenario import FaultSpec, Scenario, load_scenario


class _Heard:
    """Keeps what the workers' cores hear of their engines."""

    def __init__(self, given: Scenario) -> None:
        heard: dict[type, list[Any]] = defaultdict(list)
        self.heard = heard

        class Builder(CoreBuilder):
            def worker(self, info: Any) -> Any:
                core = super().worker(info)
                step = core.step

                def listening(event: Any, now_ns: int) -> Any:
                    heard[type(event)].append(event)
                    return step(event, now_ns)

                core.step = listening  # type: ignore[method-assign]
                return core

        self.builder = Builder(given)

    def drawn(self) -> int:
        ends = self.heard[IterationDone]
        return sum(token is not None for end in ends for token in end.sampled)

    def moved_bytes(self, kind: type) -> int:
        return sum(event.transfer_bytes for event in self.heard[kind])


def _calm(seed: int, **changes: Any) -> Scenario:
    given = load_scenario(EXAMPLES / "faults.toml")
    return replace(given, seed=seed, faults=FaultSpec(), **changes)


@pytest.mark.parametrize("seed", range(4))
def test_without_faults_every_token_drawn_is_delivered_and_every_byte_sent_lands(
    seed: int,
) -> None:
    given = _calm(seed)
    listening = _Heard(given)
    outcome = simulate(given, builder=listening.builder)
    result = measure(outcome)
    assert result.completed == result.requests == 32
    assert listening.drawn() == result.output_tokens
    sent, landed = (listening.moved_bytes(kind) for kind in (CopySent, BlocksLanded))
    assert sent == landed > 0
    # A stream that ends before its move is reported has an account without it.
    assert 0 < result.handoffs.transfer_bytes + result.migrations.transfer_bytes <= sent
    assert listening.heard[CopyFailed] == []
    assert result.iterations == len(listening.heard[IterationDone])


@pytest.mark.parametrize("seed", range(4))
def test_under_faults_more_may_be_drawn_and_sent_but_never_less(seed: int) -> None:
    given = replace(load_scenario(EXAMPLES / "faults.toml"), seed=seed)
    listening = _Heard(given)
    outcome = simulate(given, builder=listening.builder)
    delivered = sum(s.tokens for s in outcome.world.clients.streams.values())
    assert listening.drawn() >= delivered > 0
    landings = [event.copy_id for event in listening.heard[BlocksLanded]]
    assert len(landings) == len(set(landings)), "a copy lands at most once"
    failed = {event.copy_id for event in listening.heard[CopyFailed]}
    assert failed.isdisjoint(landings), "and never if it failed, at either end"


def test_every_request_of_an_overfull_cluster_is_either_served_whole_or_refused() -> None:
    given = scenario(
        workload=poisson(2000, 250, 40, 10), checked=True,
        limits={"cluster": {"queue_len_max": 8}, "worker": {"sequences_max": 4}},
    )  # fmt: skip
    outcome = simulate(given)
    result = measure(outcome)
    assert result.completed + result.rejected == 250
    assert result.rejected > 0
    assert result.failed == 0
    for stream in outcome.world.clients.streams.values():
        assert stream.tokens == (10 if stream.finish else 0)
        assert (stream.error is None) is (stream.finish is not None)
    assert result.attainment == result.slo_met / 250


@pytest.mark.parametrize("seed", range(3))
def test_migrations_at_any_moment_change_no_token_and_lose_none(seed: int) -> None:
    own = _calm(seed).limits
    unpaced = replace(own, worker={**own.worker, "copy_percent": 100})
    given = replace(_calm(seed), checked=True, limits=unpaced)
    world, run, queue = world_of(given)
    step_ns = 50_000_000
    Injector(world, [Migrate(at_ns=n * step_ns, pick=n, target=None) for n in range(1, 80)])
    queue.run_until(60_000_000_000)
    run.judge_end()
    streams = list(world.clients.streams.values())
    moves = [m for s in streams if s.account for m in s.account.moves]
    assert sum(m.kind == "migration" and m.outcome == "committed" for m in moves) >= 5
    for stream in streams:
        assert stream.account is not None
        assert stream.tokens == stream.account.output_tokens
        committed = [m for m in stream.account.moves if m.outcome == "committed"]
        assert len(stream.account.downtimes_ns) <= len(committed)
        assert stream.account.attempts == 1


@pytest.mark.parametrize("seed", range(4))
def test_every_account_lists_every_hop_of_its_stream(seed: int) -> None:
    """No report is missing because it came after the last token."""
    outcome = simulate(_calm(seed))
    for stream in outcome.world.clients.streams.values():
        assert stream.account is not None
        account = stream.account
        committed = [move for move in account.moves if move.outcome is Stage.COMMITTED]
        visited = [(move.source, move.target) for move in committed]
        hops = list(zip(account.workers, account.workers[1:], strict=False))
        assert [hop for hop in hops if hop not in visited] == []
        assert len(account.moves) >= len(hops)
