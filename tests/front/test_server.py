import socket

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from longer import longer
from scripted_front import EOS, VOCABULARY, Script, overloaded, serving, text_tokens
from splitweave.cluster.live.front.server import ADMIN, INFERENCE, MESSAGE_BYTES_MAX, PortInUse
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import InferenceStub

HELLO = text_tokens("hello")


async def replies(address: str, ask: pb.GenerateRequest) -> list[pb.GenerateReply]:
    async with aio.insecure_channel(address) as channel:
        return [reply async for reply in InferenceStub(channel).Generate(ask)]


async def failure(address: str, ask: pb.GenerateRequest) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await replies(address, ask)
    return caught.value


def text_of(found: list[pb.GenerateReply]) -> str:
    pieces = [token.text for reply in found for token in reply.tokens.tokens]
    return "".join(pieces) + found[-1].finished.text_tail


async def test_a_stream_is_accepted_then_tokens_then_finished() -> None:
    async with serving(Script(HELLO)) as front:
        ask = pb.GenerateRequest(text="x", request_id="r1", sampling=pb.SamplingParams(seed=5))
        found = await replies(front.address, ask)
    assert found[0].accepted == pb.Accepted(request_id="r1", prompt_tokens=1, seed=5)
    assert {reply.WhichOneof("event") for reply in found[1:-1]} == {"tokens"}
    indexes = [token.index for reply in found for token in reply.tokens.tokens]
    assert indexes == list(range(5))
    assert text_of(found) == "hello"
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_LENGTH


async def test_the_last_reply_accounts_for_usage_latency_and_moves() -> None:
    async with serving(Script(HELLO)) as front:
        finished = (await replies(front.address, pb.GenerateRequest(text="abc")))[-1].finished
    assert finished.usage == pb.Usage(prompt_tokens=3, output_tokens=5)
    account = finished.accounting
    assert list(account.workers) == ["prefill-0", "decode-0"]
    assert account.ttft_s == pytest.approx(0.020)
    assert account.tpot_s == pytest.approx(0.010)
    assert account.e2e_s == pytest.approx(0.060)
    assert (account.handoff_bytes, account.handoff_hidden_share) == (1000, 0.5)
    (move,) = account.moves
    assert move.seconds == pytest.approx(0.006)
    assert move.downtime_s == pytest.approx(0.004)


async def test_a_stop_string_ends_the_stream_and_is_told_to_the_core() -> None:
    script = Script(text_tokens("say STOP now"))
    async with serving(script) as front:
        found = await replies(
            front.address, pb.GenerateRequest(text="x", request_id="r", stop=["STOP"])
        )
    assert text_of(found) == "say "
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_STOP
    assert found[-1].finished.usage.output_tokens == 8
    assert script.stops == [("r", 8)]


async def test_the_end_of_sequence_is_a_token_without_text() -> None:
    async with serving(Script([*HELLO, EOS])) as front:
        found = await replies(front.address, pb.GenerateRequest(text="x"))
    assert text_of(found) == "hello"
    assert found[-1].finished.usage.output_tokens == 6
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_STOP


async def test_half_a_character_at_the_end_is_shown_as_a_replacement() -> None:
    async with serving(Script([VOCABULARY.index("ü".encode()[:1])])) as front:
        found = await replies(front.address, pb.GenerateRequest(text="x"))
    assert found[-1].finished.text_tail == "\ufffd"


async def test_logprobs_are_told_only_when_asked_for() -> None:
    async with serving(Script(HELLO, batch=5)) as front:
        plain = await replies(front.address, pb.GenerateRequest(text="x"))
        ask = pb.GenerateRequest(text="x", sampling=pb.SamplingParams(logprobs=2))
        asked = await replies(front.address, ask)
    assert not plain[1].tokens.tokens[0].HasField("logprobs")
    assert asked[1].tokens.tokens[0].logprobs.logprob == -0.5
    assert [item.logprob for item in asked[1].tokens.tokens[0].logprobs.top] == [-0.25, -0.25]


async def test_skipped_tokens_are_generated_and_not_sent() -> None:
    ask = pb.GenerateRequest(text="x", skip_tokens=3, sampling=pb.SamplingParams(seed=1))
    async with serving(Script(HELLO)) as front:
        found = await replies(front.address, ask)
    assert text_of(found) == "lo"
    assert found[-1].finished.usage.output_tokens == 5


async def test_a_client_that_has_everything_gets_only_the_end() -> None:
    script = Script(HELLO)
    full = {"emitted_token_ids": HELLO, "sampling": pb.SamplingParams(seed=1)}
    async with serving(script) as front:
        length = await replies(front.address, pb.GenerateRequest(text="x", max_tokens=5, **full))
        stop = await replies(front.address, pb.GenerateRequest(text="x", stop=["lo"], **full))
    assert [reply.WhichOneof("event") for reply in length] == ["accepted", "finished"]
    assert length[-1].finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert stop[-1].finished.finish_reason == pb.FINISH_REASON_STOP
    assert script.opened == []


async def test_a_client_that_hangs_up_takes_its_request_with_it() -> None:
    script = Script(HELLO, pause_at=2)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        call = InferenceStub(channel).Generate(pb.GenerateRequest(text="x", request_id="r"))
        await anext(aiter(call))
        await script.paused.wait()
        call.cancel()
        await script.left.wait()
        assert script.gone == ["r"]


async def test_a_deadline_reaches_the_core_and_ends_the_request() -> None:
    script = Script(HELLO, pause_at=2)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        for limit_s in longer(0.3):
            ask = pb.GenerateRequest(text="x", request_id=f"r{limit_s}")
            call = InferenceStub(channel).Generate(ask, timeout=limit_s)
            with pytest.raises(aio.AioRpcError) as caught:
                [_ async for _ in call]
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if script.opened:
                break
        await script.left.wait()
    assert script.gone[0] == script.opened[0].request_id
    assert script.deadlines[0] is not None


async def test_cancel_finishes_the_stream_with_what_it_has() -> None:
    script = Script(HELLO, pause_at=2)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        stub = InferenceStub(channel)
        call = stub.Generate(pb.GenerateRequest(text="x", request_id="r:retry-2"))
        await anext(aiter(call))
        await script.paused.wait()
        await stub.Cancel(pb.CancelRequest(request_id="r"))
        found = [reply async for reply in call]
        await script.left.wait()
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_CANCELLED
    assert found[-1].finished.usage.output_tokens == 2
    assert script.gone == ["r:retry-2"]


async def test_cancel_of_an_unknown_request_is_not_found() -> None:
    async with serving(Script(HELLO)) as front, aio.insecure_channel(front.address) as channel:
        with pytest.raises(aio.AioRpcError, match="'nobody' does not run") as caught:
            await InferenceStub(channel).Cancel(pb.CancelRequest(request_id="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_request_id_that_runs_is_refused() -> None:
    script = Script(HELLO, pause_at=0)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        ask = pb.GenerateRequest(text="x", request_id="r")
        call = InferenceStub(channel).Generate(ask)
        await anext(aiter(call))
        error = await failure(front.address, ask)
        call.cancel()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'r' runs already" in (error.details() or "")


async def test_bad_input_names_the_field_in_the_rich_status() -> None:
    async with serving(Script(HELLO)) as front:
        error = await failure(front.address, pb.GenerateRequest(text="x", max_tokens=0))
    rich = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(rich)
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert bad_request.field_violations[0].field == "max_tokens"
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_overload_says_when_to_come_back() -> None:
    script = Script(HELLO, failures=[overloaded(1_500_000_000)])
    async with serving(script) as front:
        error = await failure(front.address, pb.GenerateRequest(text="x"))
    status = status_pb2.Status.FromString(
        dict(error.trailing_metadata())["grpc-status-details-bin"]
    )
    retry = error_details_pb2.RetryInfo()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500


async def test_text_that_is_not_utf8_is_bad_input() -> None:
    raw = pb.GenerateRequest(text="xx").SerializeToString().replace(b"xx", b"\xff\xfe")
    async with serving(Script(HELLO)) as front, aio.insecure_channel(front.address) as channel:
        call = channel.unary_stream(f"/{INFERENCE}/Generate")(raw)
        with pytest.raises(aio.AioRpcError) as caught:
            [_ async for _ in call]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "all text must be UTF-8" in (caught.value.details() or "")


async def test_a_message_over_the_limit_is_refused() -> None:
    async with serving(Script(HELLO)) as front:
        error = await failure(front.address, pb.GenerateRequest(text="x" * MESSAGE_BYTES_MAX))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("service", ["", INFERENCE, ADMIN])
async def test_each_service_is_healthy(service: str) -> None:
    async with serving(Script(HELLO)) as front, aio.insecure_channel(front.address) as channel:
        ask = health_pb2.HealthCheckRequest(service=service)
        answer = await health_pb2_grpc.HealthStub(channel).Check(ask)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services() -> None:
    async with serving(Script(HELLO)) as front, aio.insecure_channel(front.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = await anext(aiter(stub.ServerReflectionInfo(iter([ask]))))
    names = {service.name for service in answer.list_services_response.service}
    assert {INFERENCE, ADMIN, "grpc.health.v1.Health"} <= names


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serving(Script(HELLO), port=port):
                pass


async def test_two_fronts_cannot_share_a_port() -> None:
    async with serving(Script(HELLO)) as front:
        with pytest.raises(PortInUse):
            async with serving(Script(HELLO), port=int(front.address.split(":")[1])):
                pass


async def test_a_stop_cuts_streams_with_unavailable_within_its_grace() -> None:
    script = Script(HELLO, pause_at=2)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        call = InferenceStub(channel).Generate(pb.GenerateRequest(text="x", request_id="r"))
        await anext(aiter(call))
        await script.paused.wait()
        await front.stop(0.05)
        with pytest.raises(aio.AioRpcError) as caught:
            [_ async for _ in call]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "this gateway is stopping; send the request again" in (caught.value.details() or "")
    assert script.gone == ["r"]


async def test_a_stop_lets_streams_end_within_its_grace() -> None:
    script = Script(HELLO)
    async with serving(script) as front, aio.insecure_channel(front.address) as channel:
        call = InferenceStub(channel).Generate(pb.GenerateRequest(text="x"))
        await anext(aiter(call))
        await front.stop(60.0)
        found = [reply async for reply in call]
    assert found[-1].finished.finish_reason == pb.FINISH_REASON_LENGTH
