"""Two clients, one behaviour: what a gateway sees and what a caller gets are the same."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from both_clients import KINDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splitweave.client import AsyncClient, AsyncStream, Client, SplitweaveError, Stream
from splitweave.proto import admin_pb2
from splitweave.proto import inference_pb2 as pb
from wire_server import UNAVAILABLE, Fail, accepted, finished, retry_info, tokens, wired

LAST = [accepted(), tokens(*range(12)), finished()]
FAILURES = [
    UNAVAILABLE,
    Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(0.001),)),
    Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(3_600.0),)),
    Fail(grpc.StatusCode.INTERNAL),
    Fail(grpc.StatusCode.NOT_FOUND),
]
ITEMS = st.one_of(
    st.just(accepted()),
    st.tuples(st.integers(0, 6), st.integers(1, 6)).map(
        lambda start_and_count: tokens(*range(start_and_count[0], sum(start_and_count)))
    ),
    st.sampled_from([*FAILURES, UNAVAILABLE, UNAVAILABLE]),
    st.just(pb.GenerateReply()),
)
ANSWERS = st.lists(st.lists(ITEMS, max_size=4), max_size=4)


async def behaviour(kind: str, answers: Sequence[Sequence[Any]]) -> list[Any]:
    """All that can be observed of one stream."""
    async with wired(*answers, LAST) as wire:
        client = KINDS[kind](wire.address)
        seen: list[Any] = []
        try:
            deltas, result = await client.stream("x", request_id="r", timeout_s=60.0)
            seen += [deltas, result]
        except SplitweaveError as error:
            seen += [type(error), str(error)]
        await client.close()
        for message in wire.requests:  # each client draws a key of its own
            again = message.request if message.DESCRIPTOR.name == "ResumeRequest" else message
            assert len(again.resume_key) == 32
            again.resume_key = ""
        return [*seen, wire.requests]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANSWERS)
def test_both_clients_behave_alike_against_any_gateway(answers: list[list[Any]]) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        return await behaviour("blocking", answers), await behaviour("asyncio", answers)

    blocking, asynchronous = asyncio.run(both())
    assert blocking == asynchronous


STATUS = admin_pb2.ClusterStatus(model="m", workers=[admin_pb2.Worker(worker_id="w")])
CALLS: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("cancel", ("r",), pb.CancelReply(), "request_id: r"),
    ("status", (), STATUS, ""),
    ("drain", ("w", 3.0), admin_pb2.DrainReply(requests=4), "worker_id: w deadline_s: 3"),
    ("drain", ("w",), admin_pb2.DrainReply(), "worker_id: w"),
    ("migrate", ("r", "w"), admin_pb2.MigrateReply(), "request_id: r target_worker_id: w"),
    ("migrate", ("r",), admin_pb2.MigrateReply(), "request_id: r"),
    ("set_role", ("w", "decode"), admin_pb2.SetRoleReply(previous=1), "worker_id: w role: "),
]


@pytest.mark.parametrize(("method", "arguments", "reply", "sent"), CALLS)
async def test_both_clients_say_and_read_every_call_alike(
    method: str, arguments: tuple[Any, ...], reply: Any, sent: str
) -> None:
    seen = []
    for kind in KINDS.values():
        async with wired([reply]) as wire:
            client = kind(wire.address)
            seen.append((await client.call(method, *arguments), wire.requests))
            await client.close()
    assert seen[0] == seen[1]
    ((request,),) = {tuple(requests) for requests in [[str(item) for item in seen[0][1]]]}
    assert " ".join(request.replace('"', "").split()).startswith(sent)


def public(kind: type[Any]) -> dict[str, Any]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    blocking, asynchronous = public(Client), public(AsyncClient)
    assert set(blocking) - {"close"} == set(asynchronous) - {"aclose"}
    for name in set(blocking) - {"close"}:
        one, other = (inspect.signature(part[name]) for part in (blocking, asynchronous))
        assert list(one.parameters.values()) == list(other.parameters.values()), name
        streams = name in ("stream", "drain_workers")
        assert streams or one.return_annotation == other.return_annotation, name
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
    assert set(public(Stream)) - {"close"} == set(public(AsyncStream)) - {"aclose"}
