"""A chat that is sent again is rendered with the date of its first try.

Templates may write today's date into the prompt: a retry after midnight would
else continue another prompt's answer.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from grpc import aio
from scripted_front import SERVED, Script, text_tokens
from splitweave.client import AsyncClient, Message, RetryPolicy, Unavailable
from splitweave.client.ask import generate_request
from splitweave.client.machine import GenerationMachine
from splitweave.client.retry import Retry
from splitweave.cluster.live.front.inference import InferenceService
from splitweave.cluster.live.front.limits import RENDERED_AT_S_MAX
from splitweave.cluster.live.front.refusals import Refused
from splitweave.cluster.live.front.validate import Ask, Validator
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import add_InferenceServicer_to_server

DAY_S = 86_400
LATE = 20_000 * DAY_S - 1  # a second before midnight
CHAT: list[Message] = [{"role": "clock", "content": ""}]
ANSWER = text_tokens("hello")


def clock() -> Iterator[int]:
    """One second before midnight, then one day after the other."""
    yield LATE
    yield from range(LATE + 1, LATE + 99 * DAY_S, DAY_S)


@asynccontextmanager
async def gateway_at(times: Iterator[int], script: Script) -> AsyncIterator[str]:
    """The Inference service on a real socket, with a clock of its own."""
    server = aio.server()
    with ThreadPoolExecutor(1) as threads:
        validator = Validator(SERVED, threads, clock_s=lambda: next(times))
        service = InferenceService(validator, SERVED.language, script)
        add_InferenceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0.0)


@pytest.mark.parametrize("broken_at", [0, 3], ids=["before a token", "after three tokens"])
async def test_a_retry_after_midnight_sends_the_same_prompt(broken_at: int) -> None:
    script = Script(ANSWER, failures=[broken_at])
    policy = RetryPolicy(backoff_s=0.0)
    async with (
        gateway_at(clock(), script) as address,
        AsyncClient(address, retry=policy) as client,
    ):
        result = await client.generate(CHAT)
    first, again = script.opened
    assert bytes(first.token_ids).decode() == "<day 19999>"
    assert again.token_ids == first.token_ids
    assert again.emitted == tuple(ANSWER[:broken_at])
    assert (result.text, result.rendered_at_s, result.retries) == ("hello", LATE, 1)


async def test_two_requests_each_have_their_own_date() -> None:
    script = Script(ANSWER)
    async with gateway_at(clock(), script) as address, AsyncClient(address) as client:
        for _ in range(2):
            await client.generate(CHAT)
    shown = [bytes(request.token_ids).decode() for request in script.opened]
    assert shown == ["<day 19999>", "<day 20000>"]


async def test_a_date_that_the_caller_gives_is_the_date() -> None:
    script = Script(ANSWER)
    async with gateway_at(clock(), script) as address, AsyncClient(address) as client:
        result = await client.generate(CHAT, rendered_at_s=7 * DAY_S)
    assert bytes(script.opened[0].token_ids).decode() == "<day 7>"
    assert result.rendered_at_s == 7 * DAY_S


async def test_a_prompt_that_is_no_chat_has_no_date() -> None:
    async with gateway_at(clock(), Script(ANSWER)) as address, AsyncClient(address) as client:
        assert (await client.generate("text")).rendered_at_s is None
        assert (await client.generate([1, 2])).rendered_at_s is None


def check(**fields: object) -> Ask:
    messages = [pb.ChatMessage(role="clock")]
    ask = pb.GenerateRequest(chat=pb.ChatMessages(messages=messages), **fields)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads:
        return asyncio.run(Validator(SERVED, threads, clock_s=lambda: LATE).check(ask))


def test_the_epoch_itself_is_a_date_and_not_left_out() -> None:
    assert check(rendered_at_s=0).rendered_at_s == 0
    assert check().rendered_at_s == LATE


def test_a_date_beyond_the_calendar_is_refused() -> None:
    assert check(rendered_at_s=RENDERED_AT_S_MAX).rendered_at_s == RENDERED_AT_S_MAX
    with pytest.raises(Refused, match=f"rendered_at_s: is .*; at most {RENDERED_AT_S_MAX}"):
        check(rendered_at_s=RENDERED_AT_S_MAX + 1)


def test_the_machine_repeats_the_newest_date_it_was_told() -> None:
    retry = Retry(RetryPolicy(tries_max=9), None, random.Random(0))
    sut = GenerationMachine(generate_request(CHAT, {}), retry)
    sut.take(pb.GenerateReply(accepted=pb.Accepted(seed=1, rendered_at_s=LATE)))
    for _ in range(3):
        sut.failed(Unavailable("broken"), 0.0)
        _, message = sut.call()
        assert isinstance(message, pb.ResumeRequest)
        assert message.request.rendered_at_s == LATE


def test_a_gateway_that_tells_no_date_is_sent_none() -> None:
    retry = Retry(RetryPolicy(), None, random.Random(0))
    sut = GenerationMachine(generate_request("x", {}), retry)
    sut.take(pb.GenerateReply(accepted=pb.Accepted(seed=1)))
    sut.failed(Unavailable("broken"), 0.0)
    _, message = sut.call()
    assert isinstance(message, pb.ResumeRequest)
    assert not message.request.HasField("rendered_at_s")
