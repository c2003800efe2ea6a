"""Resume at a real server: what a client that comes back gets, and what it is refused."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio
from scripted_front import Script, serving, text_tokens
from splitweave.cluster.live.front.validate import digest_of
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import InferenceStub

HELLO = text_tokens("hello STOP world")


def resume(
    received: int = 2, *, resumes: int = 1, name: str = "r", **fields: Any
) -> pb.ResumeRequest:
    """A client has the first `received` tokens."""
    given: dict[str, Any] = {
        "text": "x",
        "sampling": pb.SamplingParams(seed=5),
        "emitted_token_ids": HELLO[:received],
    }
    request = pb.GenerateRequest(**given | fields)
    return pb.ResumeRequest(
        request_id=name, tokens_received=received, resumes=resumes, request=request
    )


async def resumed(address: str, message: pb.ResumeRequest) -> list[pb.GenerateReply]:
    async with aio.insecure_channel(address) as channel:
        return [reply async for reply in InferenceStub(channel).Resume(message)]


async def refused(address: str, message: pb.ResumeRequest) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await resumed(address, message)
    return caught.value


def indexes(replies: list[pb.GenerateReply]) -> list[int]:
    return [token.index for reply in replies for token in reply.tokens.tokens]


async def test_a_resume_says_accepted_and_then_what_the_client_has_not() -> None:
    script = Script(HELLO)
    async with serving(script) as front:
        found = await resumed(front.address, resume(2, resume_key="k"))
    assert found[0].accepted.request_id == "r"
    assert indexes(found) == list(range(2, len(HELLO)))
    (request,) = script.opened
    assert (request.request_id, request.resumes, len(request.emitted)) == ("r", 1, 2)
    assert request.resume_digest == digest_of("k") != 0


async def test_a_stop_string_that_began_before_the_resume_ends_it() -> None:
    async with serving(Script(HELLO)) as front:
        found = await resumed(front.address, resume(8, stop=["STOP"]))
    assert indexes(found) == [8, 9]
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_STOP
    assert found[-1].finished.text_tail == ""


async def test_a_client_that_kept_only_the_count_goes_on_too() -> None:
    async with serving(Script(HELLO)) as front:
        message = resume(0, skip_tokens=4)
        message.tokens_received = 4
        found = await resumed(front.address, message)
    assert indexes(found) == list(range(4, len(HELLO)))


async def test_a_stream_of_which_the_client_has_all_is_finished_at_once() -> None:
    script = Script(HELLO)
    async with serving(script) as front:
        found = await resumed(front.address, resume(5, max_tokens=5))
    assert [reply.WhichOneof("event") for reply in found] == ["accepted", "finished"]
    assert found[-1].finished.usage.output_tokens == 5
    assert script.opened == []


async def test_without_the_request_itself_there_is_nothing_to_resume() -> None:
    async with serving(Script(HELLO)) as front:
        error = await refused(front.address, pb.ResumeRequest(request_id="gone", resumes=1))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "'gone'" in str(error.details())


WRONG = {
    "fewer than said": ({}, {"tokens_received": 3}, "is 3, but the request comes with 2"),
    "more than can be": ({"received": 6, "max_tokens": 5}, {}, "is 6; max_tokens is 5"),
    "no seed": ({"sampling": pb.SamplingParams()}, {}, "request.sampling.seed: is missing"),
    "another id": ({"request_id": "other"}, {}, "is 'other'; the stream's is 'r'"),
    "no resume": ({}, {"resumes": 0}, "resumes: is 0; 1 for the first"),
    "too many resumes": ({}, {"resumes": 2**31}, "resumes: is 2147483648"),
    "a bad prompt": ({"text": ""}, {}, "text: is empty"),
    "a long key": ({"resume_key": "k" * 129}, {}, "resume_key: has 129 characters; at most 128"),
    "a bad id": ({"name": "a/b"}, {}, "request_id: must be 1 to 128"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "changed", "said"), WRONG.values(), ids=WRONG)
async def test_counts_and_fields_that_contradict_each_other_are_named(
    given: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    message = resume(**given)
    for name, value in changed.items():
        setattr(message, name, value)
    async with serving(Script(HELLO)) as front:
        error = await refused(front.address, message)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in str(error.details())


async def test_a_call_that_is_still_open_loses_its_stream_to_the_resume() -> None:
    script = Script(HELLO, pause_at=4)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        stub = InferenceStub(channel)
        ask = pb.GenerateRequest(text="x", request_id="r", resume_key="k")
        first = asyncio.ensure_future(_all(stub.Generate(ask)))
        await script.paused.wait()
        script.pause_at = None
        second = await _all(stub.Resume(resume(1, resume_key="k")))
        assert indexes(second) == list(range(1, len(HELLO)))
        with pytest.raises(aio.AioRpcError) as caught:
            await first
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "resumed by a later call" in str(caught.value.details())


async def test_another_clients_stream_is_denied_and_goes_on() -> None:
    script = Script(HELLO, pause_at=4)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        stub = InferenceStub(channel)
        ask = pb.GenerateRequest(text="x", request_id="r", resume_key="k")
        call = stub.Generate(ask)
        reading = asyncio.ensure_future(_all(call))
        await script.paused.wait()
        error = await refused(front.address, resume(1, resume_key="stolen"))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert script.running == {"r"}
        reading.cancel()


async def test_an_older_resume_does_not_take_the_stream_from_a_newer_one() -> None:
    script = Script(HELLO, pause_at=4)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        call = InferenceStub(channel).Resume(resume(1, resumes=3))
        reading = asyncio.ensure_future(_all(call))
        await script.paused.wait()
        error = await refused(front.address, resume(1, resumes=3))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "resumes: is 3; the open call's is 3" in str(error.details())
        reading.cancel()


async def test_a_gateway_that_stops_leaves_what_runs_to_be_resumed() -> None:
    script = Script(HELLO, pause_at=4)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        reading = asyncio.ensure_future(
            _all(InferenceStub(channel).Generate(pb.GenerateRequest(text="x")))
        )
        await script.paused.wait()
        await front.stop(0.0)
        with pytest.raises(aio.AioRpcError) as caught:
            await reading
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert script.leaving


def test_a_key_leaves_a_digest_that_a_signed_64_bit_number_holds() -> None:
    assert digest_of("") == 0
    assert digest_of("a") != digest_of("b")
    assert 0 < digest_of("a" * 128) < 2**63 + 1


async def _all(call: Any) -> list[pb.GenerateReply]:
    return [reply async for reply in call]
