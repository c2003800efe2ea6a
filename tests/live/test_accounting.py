"""A real stream's account of its moves adds up, and everyone who tells of them tells the same."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from splitweave.client import Client, Generation, Move, MoveKind, RequestTrace
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig
from splitweave.cluster.live.model_path import demo_model
from splitweave.proto.cluster_events import MoveEnded
from splitweave.proto.move import MoveReport
from splitweave.proto.record import read_steps
from splitweave.workers.models.spec_file import read_spec

# No prefix of it is cached: no other live test begins like this.
PROMPT = "Accounts of a voyage, added up every evening by the purser. " * 50
MIGRATED_AT = 8  # tokens
FLOAT32_BYTES = 4
HEARD_S = 60.0  # until the controller has heard of the last move
Samples = dict[tuple[str, ...], float]


@dataclass(frozen=True, kw_only=True)
class Told:
    """One stream with a handoff and a migration, as all who saw it tell."""

    result: Generation
    answered: Move  # by the operator's `migrate`
    migrate_s: float  # that call, on the client's clock
    trace: RequestTrace
    counted: Samples  # what the counters grew by
    reports: list[MoveReport]  # as the source sent them

    @property
    def moves(self) -> tuple[Move, ...]:
        return self.result.accounting.moves


@pytest.fixture(scope="module")
def told(cluster: LiveCluster, recordings: Path) -> Iterator[Told]:
    with Client(cluster.address, timeout_s=400.0) as client:
        before = samples(client)
        stream = client.stream(PROMPT, max_tokens=120, ignore_eos=True)
        seen, answered, migrate_s = 0, None, 0.0
        for delta in stream:
            seen += len(delta.tokens)
            if seen >= MIGRATED_AT and answered is None:
                begun = time.monotonic()
                answered = client.migrate(stream.request_id)
                migrate_s = time.monotonic() - begun
        assert answered is not None
        trace = heard(client, stream.request_id)
        after = samples(client)
        yield Told(
            result=stream.result,
            answered=answered,
            migrate_s=migrate_s,
            trace=trace,
            counted={key: value - before.get(key, 0.0) for key, value in after.items()},
            reports=[
                step.event.report
                for step in read_steps(recordings / "controller.jsonl")
                if isinstance(step.event, MoveEnded)
                and step.event.report.request_id == stream.request_id
            ],
        )


def heard(client: Client, request_id: str) -> RequestTrace:
    """The trace once both moves are in it, and the end."""
    begun = time.monotonic()
    while True:
        trace = client.trace(request_id)
        if trace.ended and len(trace.moves) >= 2:
            return trace
        assert time.monotonic() - begun < HEARD_S, trace
        time.sleep(0.05)


def samples(client: Client) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.metrics())
        for sample in family.samples
        if sample.name.startswith("splitweave_move")
    }


def test_the_stream_tells_of_its_handoff_and_of_the_migration_that_was_ordered(told: Told) -> None:
    kinds = [(move.kind, move.committed, move.reason) for move in told.moves]
    assert kinds == [(MoveKind.HANDOFF, True, ""), (MoveKind.MIGRATION, True, "")]
    account = told.result.accounting
    assert account.workers == (told.moves[0].source, told.moves[0].target, told.moves[1].target)
    assert (account.handoff_bytes, account.migrations) == (told.moves[0].transfer_bytes, 1)


def test_bytes_are_blocks_times_the_bytes_of_a_block(told: Told, config: ClusterConfig) -> None:
    """Keys and values of all layers and KV heads, by the model's own spec."""
    spec = read_spec(demo_model())
    block_tokens = config.budgets.block_tokens
    token_bytes = 2 * spec.layers * spec.kv_heads * spec.head_dim * FLOAT32_BYTES
    for move in told.moves:
        assert move.transfer_bytes == move.blocks * token_bytes * block_tokens
        assert 0 <= move.hidden_bytes <= move.transfer_bytes
        assert move.hidden_share == move.hidden_bytes / move.transfer_bytes


def test_the_blocks_are_those_of_the_tokens_known_at_the_time(
    told: Told, config: ClusterConfig
) -> None:
    """The handoff moves the prompt's; the migration those and what was decoded since."""
    usage, block_tokens = told.result.usage, config.budgets.block_tokens
    handoff, migration = told.moves
    assert handoff.blocks == math.ceil(usage.prompt_tokens / block_tokens)
    least = usage.prompt_tokens + MIGRATED_AT - 1
    most = usage.prompt_tokens + usage.output_tokens
    assert math.ceil(least / block_tokens) <= migration.blocks <= math.ceil(most / block_tokens)


def test_the_stages_sum_to_the_wall_time(told: Told) -> None:
    for move, report in zip(told.moves, told.reports, strict=True):
        stages_s = move.reserve_s + move.copy_s + move.handover_s
        assert stages_s == pytest.approx(move.seconds, abs=1e-9)
        assert report.stages_ns == report.ended_ns - report.asked_ns
        assert move.seconds == report.wall_ns / 1e9
    assert 0 < told.moves[1].seconds < told.migrate_s


def test_operator_and_stream_are_told_the_same(told: Told) -> None:
    """But for the downtime, which only the stream's side can see to its end."""
    streams = [replace(move, downtime_s=0.0) for move in told.moves]
    traced = [replace(move, downtime_s=0.0) for move in told.trace.moves]
    assert traced == streams
    assert replace(told.answered, downtime_s=0.0) == streams[1]
    assert (told.trace.ended, told.trace.moves_left_out) == (True, 0)
    assert all(move.downtime_s > 0 for move in told.moves)


def test_the_counters_grow_by_the_same_numbers(told: Told) -> None:
    for move in told.moves:
        kind = str(move.kind)
        counted = told.counted
        assert counted["splitweave_moves_total", kind, "committed", ""] == 1
        assert counted["splitweave_move_bytes_total", kind] == move.transfer_bytes
        assert counted["splitweave_move_hidden_bytes_total", kind] == move.hidden_bytes
        assert counted["splitweave_move_repeats_total", kind] == move.repeats
        for stage in ("reserve", "copy", "handover"):
            grown = counted["splitweave_move_stage_seconds_sum", kind, stage]
            assert grown == pytest.approx(getattr(move, f"{stage}_s"), abs=1e-6)
