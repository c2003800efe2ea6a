"""Two whole workers, a real model, real bytes between them: equal tokens however they move."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from live_pair import WAIT_S, Cluster, move, request
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.cluster_events import WorkerViewed
from splitweave.proto.effects import EndProcess, EndReason
from splitweave.proto.gateway_events import TokensEmitted
from splitweave.proto.ids import BlockId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import FetchPlan, MoveKind, Stage
from splitweave.proto.requests import SamplingParams
from splitweave.proto.views import Role
from splitweave.proto.worker_events import MoveOrdered, PeerLost, RequestAssigned, RoleAssigned
from splitweave.workers.core.speed import HostMeter
from splitweave.workers.live import worker as worker_shell
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.live.worker import Worker
from splitweave.workers.models.errors import UnsupportedModel
from tiny_llama import FFN, HIDDEN, write_tiny_llama

SAMPLED = SamplingParams(temperature=0.9, top_k=50, seed=11)
LONG = 300


def prompt(seed: int, tokens: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(300), k=tokens))


@pytest.fixture
def cluster(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster(tiny_llama, monkeypatch)
    yield cluster
    cluster.close()


@pytest.fixture
def pair(cluster: Cluster) -> tuple[Worker, Worker]:
    a, b = cluster.start("a"), cluster.start("b")
    return cluster.ready(a), cluster.ready(b)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> TorchEngine:
    return load_engine(tiny_llama, blocks=64, block_tokens=8, threads=1)


def alone(engine: TorchEngine, known: Sequence[int], count: int, params: SamplingParams) -> list:
    """The tokens by the engine's own hand: one prefill, then one row at a time."""
    tokens, start, emitted = list(known), 0, []
    table = tuple(BlockId(block) for block in range(64))
    while len(emitted) < count:
        end = start + len(tokens)
        chunk = Chunk(
            request_id=RequestId("alone"),
            token_ids=tuple(tokens),
            start=start,
            block_table=table[: -(-end // 8)],
            draw=Draw(params=params, position=end),
        )
        (sampled,) = engine.run(Batch(iteration=0, chunks=(chunk,)), lambda layer: None)
        assert sampled is not None
        emitted.append(sampled.token_id)
        tokens, start = [sampled.token_id], end
    return emitted


@pytest.mark.parametrize("params", [SamplingParams(), SAMPLED], ids=["greedy", "sampled"])
def test_a_handoff_gives_the_tokens_of_a_lone_worker_and_copies_each_block_once(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine, params: SamplingParams
) -> None:
    a, b = pair
    cluster.pace(a)
    asked = request("r", prompt(1, 75), 40, sampling=params)
    order = move("r", MoveKind.HANDOFF, a, b._key)
    a.deliver(a._key, [RequestAssigned(request=asked, handoff=order)])
    assert cluster.gateway.stream("r") == alone(engine, asked.token_ids, 40, params)
    assert cluster.gateway.workers("r") == [a._key, b._key]
    assert cluster.gateway.tokens("r")[0] == {(a._key, cluster.gateway.stream("r")[0])}
    report = cluster.report("move-r")
    assert (report.outcome, report.reason) == (Stage.COMMITTED, "")
    # 75 prompt tokens are ten blocks of 8: each of them crossed once, in all layers.
    assert report.blocks == 10
    assert report.transfer_bytes == 10 * engine.block_bytes
    assert report.hidden_bytes <= report.transfer_bytes


def test_a_migration_amid_decoding_gives_the_tokens_of_a_lone_worker(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    """At its pace the source would decode for half a minute."""
    a, b = pair
    cluster.pace(a)
    asked = request("r", prompt(2, 33), LONG, sampling=SAMPLED)
    a.deliver(a._key, [RequestAssigned(request=asked)])
    cluster.gateway.wait(lambda: len(cluster.gateway.tokens("r")) >= 5)
    a.deliver(None, [MoveOrdered(order=move("r", MoveKind.MIGRATION, a, b._key))])
    assert cluster.gateway.stream("r") == alone(engine, asked.token_ids, LONG, SAMPLED)
    assert cluster.report("move-r").outcome is Stage.COMMITTED
    assert cluster.gateway.workers("r") == [a._key, b._key]


def test_several_requests_crossing_both_ways_keep_their_tokens(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    paced = [cluster.pace(worker) for worker in pair]
    asked = {f"r{n}": request(f"r{n}", prompt(n, 20 + 13 * n), 30) for n in range(6)}
    for number, one in enumerate(asked.values()):
        source, target = pair if number % 2 else pair[::-1]
        order = move(one.request_id, MoveKind.HANDOFF, source, target._key)
        source.deliver(source._key, [RequestAssigned(request=one, handoff=order)])
    for name in asked:
        assert cluster.report(f"move-{name}").outcome is Stage.COMMITTED
    for worker in paced:
        worker.at_full_speed.set()
    for name, one in asked.items():
        expected = alone(engine, one.token_ids, 30, SamplingParams())
        assert cluster.gateway.stream(name) == expected


def test_a_move_to_a_worker_that_is_gone_aborts_and_the_source_finishes(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    a, b = pair
    gone = WorkerKey(b._key.worker_id, Incarnation(b._key.incarnation - 1))
    asked = request("r", prompt(3, 40), LONG)
    order = move("r", MoveKind.HANDOFF, a, gone)
    a.deliver(a._key, [RequestAssigned(request=asked, handoff=order), PeerLost(key=gone)])
    expected = alone(engine, asked.token_ids, LONG, SamplingParams())
    assert cluster.gateway.stream("r") == expected
    assert cluster.gateway.workers("r") == [a._key]
    assert cluster.report("move-r").outcome is Stage.ABORTED


def test_mail_and_copies_for_another_incarnation_are_dropped(
    cluster: Cluster, pair: tuple[Worker, Worker]
) -> None:
    a, _ = pair
    older = WorkerKey(a._key.worker_id, Incarnation(a._key.incarnation - 1))
    a.deliver(older, [RequestAssigned(request=request("old", prompt(1, 5), 3))])
    a.deliver(a._key, [RequestAssigned(request=request("new", prompt(1, 5), 3))])
    assert len(cluster.gateway.stream("new")) == 3
    assert cluster.gateway.tokens("old") == {}
    assert a.endpoint(older) is None
    assert a.endpoint(a._key) == a.endpoint(None) is not None


def test_a_worker_registers_with_what_its_engine_has(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    infos = {event.info.key: event.info for event in cluster.registered()}
    for worker in pair:
        info = infos[worker._key]
        assert (info.blocks_total, info.block_tokens) == (64, 8)
        assert info.block_bytes == engine.block_bytes
        assert info.context_tokens_max == engine.spec.context_tokens
        assert (info.host, info.port) == (worker._endpoint.host, worker._endpoint.port)


@pytest.mark.parametrize(("key", "size"), [("hidden_size", 72), ("intermediate_size", 104)])
def test_a_model_whose_rows_the_cpu_kernels_cannot_take_is_refused_by_name_and_not_when_it_runs(
    tmp_path: Path, key: str, size: int
) -> None:
    """8 divides these sizes: it is the kernels' 16 lanes that do not."""
    spec = {"head_dim": 32, key: size}
    folder = write_tiny_llama(
        tmp_path,
        hidden=spec.get("hidden_size", HIDDEN),
        ffn=spec.get("intermediate_size", FFN),
        **spec,
    )
    with pytest.raises(UnsupportedModel, match=rf"\({size}\) is not a multiple of 16"):
        load_engine(folder, blocks=4, block_tokens=8, threads=1)


def test_mail_that_comes_before_the_model_is_loaded_is_kept(cluster: Cluster) -> None:
    early = cluster.start("early")
    early.deliver(None, [RequestAssigned(request=request("r", prompt(1, 5), 4))])
    assert len(cluster.gateway.stream("r")) == 4


def test_a_worker_without_its_model_says_why_and_lives(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.start("none", model_path=str(tmp_path / "nowhere"))

    async def started() -> None:
        """Behind the loading: its task is the loop's first."""
        import asyncio

        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others)

    worker._thread.result(started(), WAIT_S)
    assert worker.error().startswith("worker none: ")
    assert "nowhere" in worker.error()
    assert worker.endpoint(None) is None
    worker.deliver(None, [PeerLost(key=WorkerKey(WorkerId("x"), Incarnation(1)))])


def test_a_worker_told_of_its_own_death_ends_its_process(
    cluster: Cluster, pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[WorkerKey, EndProcess]] = []
    monkeypatch.setattr(worker_shell, "_end_process", lambda *how: ended.append(how))
    a, b = pair
    a.deliver(a._key, [PeerLost(key=b._key), PeerLost(key=a._key)])
    asked = request("after", prompt(1, 5), 3)
    a.deliver(a._key, [RequestAssigned(request=asked)])
    assert len(cluster.gateway.stream("after")) == 3  # so all before it was taken
    assert ended == [(a._key, EndProcess(why=EndReason.FENCED))]


def test_a_worker_whose_books_are_wrong_ends_its_process_when_it_is_idle(
    cluster: Cluster, pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[WorkerKey, EndProcess]] = []
    monkeypatch.setattr(worker_shell, "_end_process", lambda *how: ended.append(how))
    a, b = pair
    assert a._shell is not None
    core = a._shell._step.__self__  # type: ignore[attr-defined]
    core._blocks._fresh += 1
    for worker in (a, b):  # from then on their hearts beat
        worker.deliver(worker._key, [RoleAssigned(role=Role.MIXED, draining=False)])
    cluster.controller.wait(lambda: ended and cluster.controller.of(WorkerViewed))
    ((key, end),) = ended
    assert (key, end.why) == (a._key, EndReason.INTEGRITY)
    assert end.detail.endswith(
        "free 63 + held 0 + cached 0 + leased 0 + quarantined 0 = 63, total 64"
    )


def test_a_prompt_that_was_evicted_comes_back_from_host_memory_with_equal_tokens(
    cluster: Cluster, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which of the ways back is the quicker one is measured; here it is always this one.
    monkeypatch.setattr(HostMeter, "predict_ns", lambda self, blocks: 0.0)
    tight = cluster.ready(cluster.start("t", blocks=16, host_blocks=64))
    asked = prompt(8, 90)
    expected = alone(engine, asked, 12, SamplingParams())
    for number, tokens in enumerate((asked, prompt(9, 100), asked)):
        name = f"r{number}"
        tight.deliver(tight._key, [RequestAssigned(request=request(name, tokens, 12))])
        said = cluster.gateway.stream(name)
        cluster.ack(name)
        assert tokens != asked or said == expected
    chunks = [c for e in cluster.gateway.of(TokensEmitted) for c in e.chunks]
    cached = {c.request_id: c.cached_tokens for c in chunks}
    # All but the last of its full blocks that a token is left to compute in: 11 of 8 tokens.
    assert cached == {"r0": 0, "r1": 0, "r2": 88}


def test_a_prefix_fetched_from_a_peer_gives_equal_tokens(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    a, b = pair
    asked = prompt(12, 90)
    expected = alone(engine, asked, 12, SamplingParams())
    a.deliver(a._key, [RequestAssigned(request=request("first", asked, 12))])
    assert cluster.gateway.stream("first") == expected
    plan = FetchPlan(move_id=MoveId("move-f"), source=a._key, blocks=11)
    b.deliver(b._key, [RequestAssigned(request=request("second", asked, 12), fetch=plan)])
    assert cluster.gateway.stream("second") == expected
    report = cluster.report("move-f")
    assert (report.kind, report.outcome, report.reason) == (MoveKind.FETCH, Stage.COMMITTED, "")
    assert (report.blocks, report.transfer_bytes) == (11, 11 * engine.block_bytes)
    chunks = [c for e in cluster.gateway.of(TokensEmitted) for c in e.chunks]
    peer = {c.request_id: (c.cached_tokens, c.cached_peer_tokens) for c in chunks}
    assert peer == {"first": (0, 0), "second": (88, 88)}


def test_a_fetch_from_a_worker_that_has_forgotten_is_computed(
    cluster: Cluster, pair: tuple[Worker, Worker], engine: TorchEngine
) -> None:
    a, b = pair
    asked = prompt(13, 50)
    plan = FetchPlan(move_id=MoveId("move-f"), source=a._key, blocks=6)
    b.deliver(b._key, [RequestAssigned(request=request("r", asked, 9), fetch=plan)])
    assert cluster.gateway.stream("r") == alone(engine, asked, 9, SamplingParams())
    assert cluster.gateway.workers("r") == [b._key]
