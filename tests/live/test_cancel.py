"""A cancelled stream holds nothing when the iteration in flight ends, wherever its request was.

How long that takes is the machine's matter; that nothing else is waited for is shown
by the recordings of all these streams, in the last test.
"""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from splitweave.client import Client
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig
from splitweave.cluster.live.model_path import demo_model
from splitweave.cluster.live.setups import worker_setup
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.cluster_events import WorkerRegistered
from splitweave.proto.ids import RequestId
from splitweave.proto.inference_pb2_grpc import InferenceStub
from splitweave.proto.record import read_steps
from splitweave.proto.worker_events import IterationDone, RequestCancelled
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.models.spec_file import read_spec

WITHIN_S = 60.0  # the streams would last for minutes
CANCELLED = "cancelled-"
PROMPT = "A very long story about the sea, told by many. " * 60
# Seconds after the call began, or tokens after which it is cancelled.
MOMENTS = {
    "at once": 0.0, "mid-prefill": 0.15, "later in prefill": 0.4, "about the handoff": 0.8,
}  # fmt: skip


@pytest.fixture
def stub(cluster: LiveCluster) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(cluster.address) as channel:
        yield InferenceStub(channel)


def ask(seed: int) -> pb.GenerateRequest:
    """No prefix of it is cached: each begins with its own number."""
    text = f"{random.Random(seed).random()} {PROMPT}"
    return pb.GenerateRequest(
        text=text, max_tokens=6_000, ignore_eos=True, request_id=f"{CANCELLED}{seed}"
    )


def held(client: Client) -> int:
    """Blocks that somebody owns, on all workers."""
    blocks = [worker.blocks for worker in client.status().workers]
    return sum(b.total - b.free - b.cached for b in blocks)


def freed(client: Client) -> None:
    """Until nobody owns a block."""
    begun = time.monotonic()
    while held(client):
        assert time.monotonic() - begun < WITHIN_S, client.status()
        time.sleep(0.02)


@pytest.mark.parametrize("after_s", MOMENTS.values(), ids=MOMENTS)
def test_a_stream_cancelled_before_its_first_tokens_frees_all(
    client: Client, stub: InferenceStub, after_s: float
) -> None:
    freed(client)
    call = stub.Generate(ask(int(after_s * 1e3)))
    time.sleep(after_s)
    call.cancel()
    freed(client)


@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_a_stream_cancelled_while_it_decodes_frees_all(
    client: Client, stub: InferenceStub, tokens: int
) -> None:
    freed(client)
    call = stub.Generate(ask(tokens))
    seen = 0
    for reply in call:
        seen += len(reply.tokens.tokens)
        if seen >= tokens:
            break
    call.cancel()
    freed(client)


@pytest.mark.parametrize("deadline_s", [0.2, 0.6, 2.0])
def test_a_deadline_ends_a_stream_in_time_and_frees_all(
    client: Client, stub: InferenceStub, deadline_s: float
) -> None:
    freed(client)
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Generate(ask(int(deadline_s * 1e6)), timeout=deadline_s))
    took_s = time.monotonic() - begun
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert deadline_s - 0.05 <= took_s < deadline_s + WITHIN_S
    freed(client)


def test_a_cancelled_request_frees_its_blocks_when_the_iteration_in_flight_ends(
    cluster: LiveCluster, config: ClusterConfig, recordings: Path, tmp_path: Path
) -> None:
    """Of every stream above, at every worker that had it: no timer, no second iteration."""
    del cluster  # its cores go on recording: a copy stands still
    taken = Path(shutil.copytree(recordings, tmp_path / "recordings"))
    layers = read_spec(demo_model()).layers
    waits: list[int] = []
    for step in list(read_steps(taken / "controller.jsonl")):
        if isinstance(step.event, WorkerRegistered):
            info = step.event.info
            path = taken / f"{info.key.worker_id}-{info.key.incarnation}.jsonl"
            pool = next(pool for pool in config.pools if pool.name == info.pool)
            limits = worker_setup(config, pool, info.key.worker_id).limits
            waits += iterations_until_freed(WorkerCore(info, limits, layers), path)
            path.write_text("")  # it may register again
    assert waits
    assert max(waits) <= 1


def iterations_until_freed(core: WorkerCore, path: Path) -> list[int]:
    """How many iterations ended after each cancel until no block was held any more."""
    waits: list[int] = []
    since: int | None = None
    for step in read_steps(path):
        cancel = isinstance(step.event, RequestCancelled) and _is_ours(step.event.request_id)
        begins = cancel and core.phase(step.event.request_id) is not None
        core.step(step.event, step.now_ns)
        if begins:
            since = 0
        elif since is not None:
            since += isinstance(step.event, IterationDone)
        if since is not None and not core.view(step.now_ns).blocks_held:
            waits.append(since)
            since = None
    assert since is None
    return waits


def _is_ours(request_id: RequestId) -> bool:
    return request_id.startswith(CANCELLED)
