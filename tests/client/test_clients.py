import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from both_clients import KINDS, PATIENT, Async, Blocking
from longer import longer
from scripted_front import Script, overloaded, serving, text_tokens
from splitweave.client import (
    DeadlineExceeded,
    Delta,
    FinishReason,
    InvalidRequest,
    MoveKind,
    NotFound,
    Overloaded,
    Unavailable,
)

ANSWER = "héllo wörld, 日本 STOP here"
TOKENS = text_tokens(ANSWER)
Connect = Callable[..., Blocking | Async]


@pytest.fixture(params=KINDS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    opened: list[Blocking | Async] = []

    def make(*fronts: Any, **settings: Any) -> Blocking | Async:
        addresses = ",".join(front.address for front in fronts)
        opened.append(KINDS[request.param](addresses, **settings))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


def joined(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_the_deltas_are_the_answer(connect: Connect) -> None:
    async with serving(Script(TOKENS)) as front:
        deltas, result = await connect(front).stream("hi", seed=3)
    assert joined(deltas) == result.text == ANSWER
    assert result.token_ids == tuple(TOKENS)
    assert [token.index for token in result.tokens] == list(range(len(TOKENS)))
    assert (result.seed, result.finish_reason) == (3, FinishReason.LENGTH)
    assert result.usage.prompt_tokens == 2
    assert result.retries == 0


async def test_the_result_accounts_for_workers_and_moves(connect: Connect) -> None:
    async with serving(Script(TOKENS)) as front:
        result = await connect(front).call("generate", "hi")
    assert result.accounting.workers == ("prefill-0", "decode-0")
    (move,) = result.accounting.moves
    assert (move.kind, move.transfer_bytes, move.committed) == (MoveKind.HANDOFF, 1000, True)


async def test_chat_and_token_ids_are_sent_as_such(connect: Connect) -> None:
    script = Script(TOKENS)
    async with serving(script) as front:
        client = connect(front)
        await client.call("chat", [{"role": "user", "content": "hi"}])
        await client.call("generate", [1, 2, 3])
    assert bytes(script.opened[0].token_ids) == b"<user>hi"
    assert script.opened[1].token_ids == (1, 2, 3)


async def test_every_option_reaches_the_cluster(connect: Connect) -> None:
    script = Script(TOKENS)
    async with serving(script) as front:
        await connect(front).call(
            "generate", "x", max_tokens=4, temperature=0.5, top_k=9, top_p=0.75, min_p=0.25,
            repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=-0.5, seed=11,
            logprobs=2, stop_token_ids=[7], ignore_eos=True, request_id="mine",
            model="scripted", timeout_s=60.0, stop=["zzz"],
        )  # fmt: skip
    (request,) = script.opened
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 9, 0.75)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.25, 1.5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.seed, sampling.logprobs) == (11, 2)
    assert (request.request_id, request.max_tokens) == ("mine", 4)
    assert request.stop_token_ids == {7}


async def test_a_stop_string_ends_the_text(connect: Connect) -> None:
    async with serving(Script(TOKENS, batch=2)) as front:
        deltas, result = await connect(front).stream("x", stop=["STOP"])
    assert joined(deltas) == result.text == ANSWER.split("STOP", maxsplit=1)[0]
    assert result.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stop", [[], ["STOP"], ["日本 S"]])
async def test_a_stream_broken_again_and_again_loses_and_repeats_no_token(
    connect: Connect, batch: int, stop: list[str]
) -> None:
    async with serving(Script(TOKENS, batch=batch)) as front:
        whole, plain = await connect(front).stream("x", seed=1, stop=stop)
    script = Script(TOKENS, batch=batch, failures=[0, 4, 9, 20, 23])
    async with serving(script) as front:
        deltas, result = await connect(front).stream("x", seed=1, stop=stop)
    assert result.token_ids == plain.token_ids
    assert joined(deltas) == joined(whole) == plain.text
    indexes = [token.index for delta in deltas for token in delta.tokens]
    assert indexes == list(range(len(plain.tokens)))
    assert result.retries >= 4


async def test_a_retry_asks_only_for_what_is_missing_with_the_seed_in_force(
    connect: Connect,
) -> None:
    script = Script(TOKENS, failures=[5])
    async with serving(script) as front:
        _, result = await connect(front).stream("x", temperature=1.0, request_id="r")
    first, second = script.opened
    assert second.emitted == tuple(TOKENS[:5])
    assert second.sampling == first.sampling
    assert (second.request_id, second.resumes, result.request_id) == ("r", 1, "r")
    assert second.resume_digest == first.resume_digest != 0
    assert result.seed == first.sampling.seed


async def test_a_stream_resumes_at_another_gateway(connect: Connect) -> None:
    first, second = Script(TOKENS, pause_at=6), Script(TOKENS)
    async with serving(first) as one, serving(second) as two:
        client = connect(one, two)
        reading = asyncio.ensure_future(client.stream("x"))
        await client.received(6)
        await one.stop(0.0)
        deltas, result = await reading
    assert joined(deltas) == result.text == ANSWER
    assert [token.index for token in result.tokens] == list(range(len(TOKENS)))
    assert len(second.opened[0].emitted) == 6


async def test_overload_is_waited_out_as_long_as_the_server_asked(connect: Connect) -> None:
    script = Script(TOKENS, failures=[overloaded(50_000_000)])
    async with serving(script) as front:
        clock = asyncio.get_running_loop().time
        begun = clock()
        result = await connect(front).call("generate", "x")
    assert clock() - begun >= 0.05
    assert (result.text, result.retries) == (ANSWER, 1)


async def test_overload_beyond_the_deadline_is_raised_at_once(connect: Connect) -> None:
    async with serving(Script(TOKENS, failures=[overloaded(3_600 * 10**9)])) as front:
        with pytest.raises(Overloaded, match="queue is full") as caught:
            await connect(front).call("generate", "x", timeout_s=60.0)
    assert caught.value.retry_after_s == 3600.0


async def test_a_request_without_progress_is_given_up(connect: Connect) -> None:
    script = Script(TOKENS, failures=[3, 3, 3, 3, 3, 3, 3, 3, 3])
    async with serving(script) as front:
        with pytest.raises(Unavailable, match="no worker is left"):
            await connect(front).call("generate", "x")
    assert len(script.opened) == PATIENT.tries_max


async def test_nobody_listening_is_unavailable(connect: Connect) -> None:
    async with serving(Script(TOKENS)) as front:
        client = connect(front)
    with pytest.raises(Unavailable):
        await client.call("generate", "x")


async def test_a_deadline_ends_a_stream(connect: Connect) -> None:
    script = Script(TOKENS, pause_at=3)
    async with serving(script) as front:
        for limit_s in longer(0.3):
            with pytest.raises(DeadlineExceeded):
                await connect(front).call("generate", "x", timeout_s=limit_s)
            if script.opened:
                break
        await script.left.wait()


async def test_leaving_a_stream_cancels_it_in_the_cluster(connect: Connect) -> None:
    script = Script(TOKENS, pause_at=3)
    async with serving(script) as front:
        assert len(await connect(front).take(1, "x", request_id="r")) == 1
        await script.left.wait()
    assert script.gone == ["r"]


async def test_another_client_cancels_by_id_whatever_gateway_it_asks(connect: Connect) -> None:
    script = Script(TOKENS, pause_at=3)
    async with serving(script) as front, serving(Script(TOKENS)) as idle:
        reading = asyncio.ensure_future(connect(front).stream("x", request_id="r"))
        await script.paused.wait()
        await connect(idle, front).call("cancel", "r")
        _, result = await reading
    assert result.finish_reason is FinishReason.CANCELLED
    assert result.token_ids == tuple(TOKENS[:3])


async def test_cancel_of_an_unknown_request_is_not_found(connect: Connect) -> None:
    async with serving(Script(TOKENS)) as front, serving(Script(TOKENS)) as other:
        with pytest.raises(NotFound, match="'r' does not run"):
            await connect(front, other).call("cancel", "r")


async def test_bad_input_is_raised_with_its_field_and_not_retried(connect: Connect) -> None:
    script = Script(TOKENS)
    async with serving(script) as front:
        with pytest.raises(InvalidRequest, match="top_p: is 2; above 0, at most 1") as caught:
            await connect(front).call("generate", "x", top_p=2.0)
    assert caught.value.field == "sampling.top_p"
    assert script.opened == []


async def test_logprobs_arrive_with_their_tokens(connect: Connect) -> None:
    async with serving(Script(TOKENS)) as front:
        result = await connect(front).call("generate", "x", logprobs=1)
    assert result.tokens[0].logprobs is not None
    assert result.tokens[0].logprobs.top == ((1, -0.25),)
