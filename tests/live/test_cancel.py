"""A cancelled stream holds nothing a second later, wherever its request was."""

import random
import time
from collections.abc import Iterator

import grpc
import pytest
from splitweave.client import Client
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import InferenceStub

WITHIN_S = 1.0
SEEN_S = 0.25  # until the next heartbeat shows it
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
    return pb.GenerateRequest(text=text, max_tokens=400, ignore_eos=True)


def held(client: Client) -> int:
    """Blocks that somebody owns, on all workers."""
    blocks = [worker.blocks for worker in client.status().workers]
    return sum(b.total - b.free - b.cached for b in blocks)


def freed_s(client: Client) -> float:
    """Seconds until nobody owns a block."""
    begun = time.monotonic()
    while held(client):
        assert time.monotonic() - begun < 30.0, client.status()
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.mark.parametrize("after_s", MOMENTS.values(), ids=MOMENTS)
def test_a_stream_cancelled_before_its_first_tokens_frees_all_within_a_second(
    client: Client, stub: InferenceStub, after_s: float
) -> None:
    freed_s(client)
    call = stub.Generate(ask(int(after_s * 1e3)))
    time.sleep(after_s)
    call.cancel()
    assert freed_s(client) <= WITHIN_S + SEEN_S


@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_a_stream_cancelled_while_it_decodes_frees_all_within_a_second(
    client: Client, stub: InferenceStub, tokens: int
) -> None:
    freed_s(client)
    call = stub.Generate(ask(tokens))
    seen = 0
    for reply in call:
        seen += len(reply.tokens.tokens)
        if seen >= tokens:
            break
    call.cancel()
    assert freed_s(client) <= WITHIN_S + SEEN_S


@pytest.mark.parametrize("deadline_s", [0.2, 0.6, 2.0])
def test_a_deadline_ends_a_stream_in_time_and_frees_all_within_a_second(
    client: Client, stub: InferenceStub, deadline_s: float
) -> None:
    freed_s(client)
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Generate(ask(int(deadline_s * 1e6)), timeout=deadline_s))
    took_s = time.monotonic() - begun
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert deadline_s - 0.05 <= took_s <= deadline_s + WITHIN_S
    assert freed_s(client) <= WITHIN_S + SEEN_S
