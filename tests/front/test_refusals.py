"""Errors on the wire: the code, what to change, when to come back; within gRPC's limits."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from scripted_front import Script, serving, unavailable
from splitweave.client.errors import InvalidRequest, Overloaded, Unavailable, from_rpc
from splitweave.cluster.live.front.refusals import (
    CODES,
    DESCRIPTION_MAX,
    DETAILS_KEY,
    VIOLATIONS_MAX,
    Violation,
    failed,
    invalid,
)
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.effects import FailStream
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import RequestId
from splitweave.proto.inference_pb2_grpc import InferenceStub

METADATA_BYTES_MAX = 8 * 1024  # grpc's own limit for trailing metadata


def failing(code: RejectCode, retry_after_ns: int | None = None) -> FailStream:
    return FailStream(
        request_id=RequestId("r"), code=code, message="why", retry_after_ns=retry_after_ns
    )


async def ending(script: Script, ask: pb.GenerateRequest) -> aio.AioRpcError:
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            [_ async for _ in InferenceStub(channel).Generate(ask)]
    return caught.value


def test_every_code_of_the_core_has_a_status() -> None:
    assert set(CODES) == set(RejectCode)
    for code, status in CODES.items():
        assert failed(failing(code)).code is status
        assert status.name == code.name


@pytest.mark.parametrize("code", RejectCode)
async def test_a_stream_that_fails_ends_with_the_cores_word(code: RejectCode) -> None:
    error = await ending(Script([1], failures=[failing(code)]), pb.GenerateRequest(text="x"))
    assert (error.code().name, error.details()) == (code.name, "why")
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    assert (status.code, status.message) == (error.code().value[0], "why")
    assert not status.details  # no time was given


@pytest.mark.parametrize(
    ("code", "kind"),
    [(RejectCode.RESOURCE_EXHAUSTED, Overloaded), (RejectCode.UNAVAILABLE, Unavailable)],
)
async def test_when_to_come_back_reaches_the_sdk(
    code: RejectCode, kind: type[Overloaded | Unavailable]
) -> None:
    script = Script([1], failures=[failing(code, retry_after_ns=1_250_000_000)])
    error = from_rpc(await ending(script, pb.GenerateRequest(text="x")))
    assert isinstance(error, kind)
    assert error.retry_after_s == 1.25


async def test_a_break_in_mid_stream_is_unavailable_after_the_tokens_that_came() -> None:
    script = Script([104, 105, 106], failures=[2])
    got: list[int] = []

    async def read(stub: InferenceStub) -> None:
        async for reply in stub.Generate(pb.GenerateRequest(text="x")):
            got.extend(token.token_id for token in reply.tokens.tokens)

    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await read(InferenceStub(channel))
    assert got == [104, 105]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == unavailable(script.opened[0]).message


async def test_a_stream_that_ends_without_an_end_is_unavailable() -> None:
    class Lost(Script):
        async def open(self, request, deadline_ns):  # noqa: ANN001, ANN202
            del request, deadline_ns
            if False:
                yield

    error = await ending(Lost([1]), pb.GenerateRequest(text="x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "the gateway lost this stream; send the request again" in (error.details() or "")


async def test_a_request_with_everything_wrong_is_refused_within_grpcs_limit() -> None:
    ask = pb.GenerateRequest(
        text="", model="m" * 5000, request_id="?" * 5000, max_tokens=0, stop=[""] * 16,
        stop_token_ids=[10**6], skip_tokens=1, emitted_token_ids=[10**6],
        sampling=pb.SamplingParams(temperature=-1, top_p=2, min_p=2, logprobs=99),
    )  # fmt: skip
    error = await ending(Script([1]), ask)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    found = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(found)
    assert len(found.field_violations) == VIOLATIONS_MAX
    assert max(len(item.description) for item in found.field_violations) == DESCRIPTION_MAX
    sent = sum(len(key) + len(value) for key, value in error.trailing_metadata())
    assert sent + len(error.details() or "") < METADATA_BYTES_MAX


async def test_the_sdk_names_every_field_that_is_wrong() -> None:
    ask = pb.GenerateRequest(text="", max_tokens=0)
    error = from_rpc(await ending(Script([1]), ask))
    assert isinstance(error, InvalidRequest)
    assert [item.field for item in error.violations] == ["text", "max_tokens"]
    assert error.field == "text"
    assert error.message == (
        "text: is empty; a prompt has at least one character; max_tokens: is 0; at least 1"
    )


def test_the_longest_list_of_violations_still_names_the_first() -> None:
    refused = invalid(*(Violation(f"f{number}", "x" * 999) for number in range(99)))
    assert refused.message.startswith("f0: xxx")
    assert f"f{VIOLATIONS_MAX - 1}: " in refused.message
    assert f"f{VIOLATIONS_MAX}: " not in refused.message
