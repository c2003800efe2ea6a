"""Two gateways, live: a stream outlives the kill of its own, and the killed one comes back."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import grpc
import pytest
from splitweave.client import Client, Gateway, Generation, SplitweaveError, Stream
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import InferenceStub

PROMPT = "The history of the sea is long, and"
OUTPUT = 96
WAIT_S = 200.0
Options = dict[str, object]
ASKS: dict[str, Options] = {
    "greedy": {"seed": 3},
    "seeded, with logprobs": {"temperature": 0.8, "seed": 7, "logprobs": 2},
    "with stop strings": {"temperature": 0.8, "seed": 11, "stop": ["zebra crossing"]},
}


def until(what: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < WAIT_S, "it never came"
        time.sleep(0.05)


def gateways(cluster: LiveCluster) -> dict[str, Gateway]:
    """By address; those that serve."""
    for address in cluster.address.split(","):
        try:
            with Client(address, timeout_s=20.0) as client:
                seen = client.status().gateways
                return {gateway.address: gateway for gateway in seen if gateway.state == "serving"}
        except SplitweaveError:
            continue  # it is the one that was killed
    return {}


def both_serve(cluster: LiveCluster) -> bool:
    return len(gateways(cluster)) == 2


def read(stream: Stream, tokens: int) -> list[int]:
    """The indexes of the first tokens, at least so many."""
    seen: list[int] = []
    for delta in stream:
        seen += [token.index for token in delta.tokens]
        if len(seen) >= tokens:
            break
    return seen


@dataclass(frozen=True, kw_only=True)
class Told:
    """One kind of stream: undisturbed, over its gateway's death, and at that gateway again."""

    whole: Generation
    seen: list[int]  # the indexes of its tokens, while its gateway died
    over: Generation
    later: Generation


@pytest.fixture(scope="module")
def told(pair: LiveCluster) -> dict[str, Told]:
    """All kinds at once, and one kill under them all."""
    until(lambda: both_serve(pair))
    first = pair.address.split(",")[0]
    asks = {name: {"max_tokens": OUTPUT, "ignore_eos": True, **ASKS[name]} for name in ASKS}
    with Client(pair.address, timeout_s=400.0) as client, ThreadPoolExecutor(len(ASKS)) as pool:
        whole = [client.generate(PROMPT, **ask) for ask in asks.values()]  # type: ignore[arg-type]
        victim = gateways(pair)[first]
        streaming = Barrier(len(ASKS), lambda: os.kill(victim.pid, signal.SIGKILL))

        def over(options: Options) -> tuple[list[int], Generation]:
            with client.stream(PROMPT, **options) as stream:  # type: ignore[arg-type]
                seen = read(stream, 8)
                streaming.wait(WAIT_S)
                seen += [token.index for delta in stream for token in delta.tokens]
                return seen, stream.result

        disturbed = list(pool.map(over, asks.values()))
    until(lambda: both_serve(pair))
    assert gateways(pair)[first].pid != victim.pid  # at its own port
    with Client(first, timeout_s=400.0) as client:
        later = [client.generate(PROMPT, **ask) for ask in asks.values()]  # type: ignore[arg-type]
    return {
        name: Told(whole=before, seen=seen, over=result, later=after)
        for name, before, (seen, result), after in zip(asks, whole, disturbed, later, strict=True)
    }


@pytest.mark.parametrize("kind", ASKS)
def test_a_stream_whose_gateway_is_killed_equals_the_undisturbed_one(
    told: dict[str, Told], kind: str
) -> None:
    one = told[kind]
    assert one.seen == list(range(len(one.whole.tokens)))
    assert same(one.over) == same(one.whole)
    assert one.over.retries >= 1


@pytest.mark.parametrize("kind", ASKS)
def test_a_killed_gateway_comes_back_at_its_port_and_serves_the_same(
    told: dict[str, Told], kind: str
) -> None:
    assert same(told[kind].later) == same(told[kind].whole)


def same(result: Generation) -> tuple[object, ...]:
    return (result.text, result.tokens, result.finish_reason, result.seed)


def test_what_may_not_be_resumed_is_refused_and_says_why(pair: LiveCluster) -> None:
    until(lambda: both_serve(pair))
    first, second = pair.address.split(",")
    ask = pb.GenerateRequest(text=PROMPT, request_id="mine", resume_key="k", max_tokens=1200)
    ask.ignore_eos = True
    ask.sampling.seed = 1
    with grpc.insecure_channel(first) as here, grpc.insecure_channel(second) as there:
        call = InferenceStub(here).Generate(ask)
        had = _first_tokens(call, 8)
        stolen = _resume(ask, had)
        stolen.request.resume_key = "stolen"
        error = _failure(there, stolen)
        assert (error.code(), "another client" in str(error.details())) == (DENIED, True)
        # So far ahead that the worker does not get there meanwhile, be it ever so quick.
        error = _failure(there, _resume(ask, had + [1] * 1000))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "is 1008, but" in str(error.details())
        error = _failure(there, pb.ResumeRequest(request_id="mine", resumes=1))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        call.cancel()


def test_a_stream_moves_to_another_gateway_while_its_worker_runs_on(pair: LiveCluster) -> None:
    """The first gateway lives: its call ends, and the worker is asked for nothing again."""
    until(lambda: both_serve(pair))
    first, second = pair.address.split(",")
    ask = pb.GenerateRequest(text=PROMPT, request_id="moved", resume_key="k", max_tokens=120)
    ask.ignore_eos = True
    ask.sampling.seed = 1
    with grpc.insecure_channel(first) as here, grpc.insecure_channel(second) as there:
        whole = _tokens(InferenceStub(there).Generate(ask))
        call = InferenceStub(here).Generate(ask)
        had = _first_tokens(call, 8)
        rest = _tokens(InferenceStub(there).Resume(_resume(ask, had)))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert had + rest == whole
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "goes on at gateway gateway-1" in str(caught.value.details())


DENIED = grpc.StatusCode.PERMISSION_DENIED


def _first_tokens(call: Iterator[pb.GenerateReply], count: int) -> list[int]:
    tokens: list[int] = []
    for reply in call:
        tokens += [token.token_id for token in reply.tokens.tokens]
        if len(tokens) >= count:
            return tokens
    raise AssertionError(tokens)


def _tokens(call: Iterator[pb.GenerateReply]) -> list[int]:
    return [token.token_id for reply in call for token in reply.tokens.tokens]


def _resume(ask: pb.GenerateRequest, had: list[int]) -> pb.ResumeRequest:
    resume = pb.ResumeRequest(
        request_id=ask.request_id, tokens_received=len(had), resumes=1, request=ask
    )
    resume.request.emitted_token_ids.extend(had)
    return resume


def _failure(channel: grpc.Channel, resume: pb.ResumeRequest) -> grpc.RpcError:
    """How a resume ends that should not be one."""
    with pytest.raises(grpc.RpcError) as caught:
        list(InferenceStub(channel).Resume(resume, timeout=100))
    return caught.value
