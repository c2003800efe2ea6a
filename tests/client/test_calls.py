"""Calls with one reply over real sockets: their tries, their addresses, their deadlines."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from both_clients import KINDS, PATIENT, Async, Blocking
from longer import longer
from splitweave.client import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    Refused,
    Unavailable,
)
from splitweave.client.calls import TIMEOUT_S
from splitweave.proto import admin_pb2
from splitweave.proto import inference_pb2 as pb
from wire_server import HANG, UNAVAILABLE, Fail, Wire, accepted, finished, retry_info, tokens, wired

Connect = Callable[..., Blocking | Async]
GONE = Fail(grpc.StatusCode.NOT_FOUND, "'r' does not run")
CANCELLED = [pb.CancelReply()]


@pytest.fixture(params=KINDS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    opened: list[Blocking | Async] = []

    def make(*wires: Wire, **settings: Any) -> Blocking | Async:
        addresses = ",".join(wire.address for wire in wires)
        opened.append(KINDS[request.param](addresses, **settings))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


async def test_each_try_goes_to_the_next_address(connect: Connect) -> None:
    async with wired([UNAVAILABLE]) as one, wired([UNAVAILABLE], CANCELLED) as two:
        await connect(one, two).call("cancel", "r")
    assert (len(one.methods), len(two.methods)) == (2, 2)


async def test_tries_end_with_the_policys_patience(connect: Connect) -> None:
    async with wired([UNAVAILABLE]) as wire:
        with pytest.raises(Unavailable, match="so it is"):
            await connect(wire).call("status")
    assert len(wire.methods) == PATIENT.tries_max


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_an_unknown_id_is_asked_for_once_at_every_gateway(
    connect: Connect, count: int
) -> None:
    async with wired([GONE]) as one, wired([GONE]) as two, wired([GONE]) as three:
        wires = [one, two, three][:count]
        with pytest.raises(NotFound, match="'r' does not run"):
            await connect(*wires).call("cancel", "r")
        assert [len(wire.methods) for wire in wires] == [1] * count


async def test_a_migration_is_tried_once_for_a_second_would_move_it_again(
    connect: Connect,
) -> None:
    async with wired([UNAVAILABLE]) as one, wired([admin_pb2.MigrateReply()]) as two:
        with pytest.raises(Unavailable):
            await connect(one, two).call("migrate", "r")
    assert (len(one.methods), len(two.methods)) == (1, 0)


async def test_a_migration_of_a_request_unknown_here_is_asked_for_elsewhere(
    connect: Connect,
) -> None:
    reply = admin_pb2.MigrateReply(move=pb.Move(source="a", target="b"))
    async with wired([GONE]) as one, wired([reply]) as two:
        move = await connect(one, two).call("migrate", "r", "b")
    assert (move.source, move.target) == ("a", "b")


async def test_what_is_refused_is_not_tried_again(connect: Connect) -> None:
    async with wired([Fail(grpc.StatusCode.FAILED_PRECONDITION, "the last one")]) as wire:
        with pytest.raises(Refused, match="the last one"):
            await connect(wire).call("drain", "w")
    assert len(wire.methods) == 1


async def test_a_bad_argument_is_refused_before_anything_is_sent(connect: Connect) -> None:
    async with wired(CANCELLED) as wire:
        client = connect(wire)
        for method, arguments in (("set_role", ("w", "cook")), ("cancel", (3,))):
            with pytest.raises(InvalidRequest):
                await client.call(method, *arguments)
    assert wire.methods == []


async def test_a_call_has_a_deadline_even_if_nobody_set_one(connect: Connect) -> None:
    async with wired([admin_pb2.ClusterStatus()]) as wire:
        await connect(wire).call("status")
    (remaining_s,) = wire.remaining_s
    assert remaining_s is not None
    assert TIMEOUT_S / 2 < remaining_s < TIMEOUT_S + 1  # gRPC rounds up


async def test_a_drain_waits_as_long_as_it_takes_unless_the_client_has_a_limit(
    connect: Connect,
) -> None:
    async with wired([admin_pb2.DrainReply(requests=3)]) as wire:
        assert await connect(wire).call("drain", "w") == 3
        assert await connect(wire, timeout_s=50.0).call("drain", "w") == 3
    unlimited, limited = wire.remaining_s
    assert unlimited is None or unlimited > 1e6
    assert limited is not None
    assert limited < 51.0  # gRPC rounds up


async def test_the_clients_limit_ends_a_call_that_hangs(connect: Connect) -> None:
    async with wired([HANG]) as wire:
        for limit_s in longer(0.2):
            with pytest.raises(DeadlineExceeded):
                await connect(wire, timeout_s=limit_s).call("status")
            if wire.hanging.is_set():
                break
        await wire.left.wait()


async def test_retries_share_one_deadline(connect: Connect) -> None:
    """A long one, so that the policy's patience ends the tries: each begins with less left."""
    wait = Fail(grpc.StatusCode.UNAVAILABLE, details=(retry_info(0.25),))
    async with wired([wait]) as wire:
        with pytest.raises(Unavailable):
            await connect(wire, timeout_s=30.0).call("status")
    assert len(wire.methods) == PATIENT.tries_max
    remaining = [item for item in wire.remaining_s if item is not None]
    assert len(remaining) == PATIENT.tries_max
    # Seven waits of 0.25 s; gRPC rounds what it sends up, by a few percent.
    assert remaining[-1] <= remaining[0] - 0.4


async def test_a_wish_beyond_the_deadline_is_raised_with_the_wish(connect: Connect) -> None:
    full = Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(99.0),))
    async with wired([full]) as wire:
        with pytest.raises(Overloaded) as caught:
            await connect(wire, timeout_s=60.0).call("status")
    assert caught.value.retry_after_s == 99.0
    assert len(wire.methods) == 1


async def test_an_answer_that_is_whole_stands_whatever_status_follows(connect: Connect) -> None:
    """As when the gateway dies between the last token and the end of the call."""
    for status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
        async with wired([accepted(), tokens(0, 1), finished("!"), Fail(status)]) as wire:
            deltas, result = await connect(wire).stream("x")
        assert result.text == "".join(delta.text for delta in deltas) == "0,1,!"
        assert (result.retries, len(wire.methods)) == (0, 1)


async def test_a_stream_that_ends_without_its_end_goes_on_elsewhere(connect: Connect) -> None:
    rest = [accepted(), tokens(2), finished()]
    async with wired([accepted(), tokens(0, 1)]) as one, wired(rest) as two:
        _, result = await connect(one, two).stream("x", request_id="r")
    assert (result.text, result.retries) == ("0,1,2,", 1)
    (again,) = two.requests
    assert (two.methods, again.tokens_received, again.resumes) == (["Resume"], 2, 1)
    assert list(again.request.emitted_token_ids) == [100, 101]
