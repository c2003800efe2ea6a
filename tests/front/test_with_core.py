from core_streams import CoreStreams
from grpc import aio
from scripted_front import serving, text_tokens
from splitweave.client import AsyncClient, FinishReason
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.inference_pb2_grpc import InferenceStub

BEFORE_STOP = "héllo wörld, 日本 "
ANSWER = f"{BEFORE_STOP}STOP here"
TOKENS = text_tokens(ANSWER)


async def test_doubled_and_overlapping_chunks_reach_the_client_once() -> None:
    async with serving(CoreStreams(TOKENS)) as front, AsyncClient(front.address) as client:
        result = await client.generate("x")
    assert (result.text, result.token_ids) == (ANSWER, tuple(TOKENS))
    assert result.usage.output_tokens == len(TOKENS)
    assert result.accounting.workers == ("decode-0",)


async def test_a_stop_string_ends_the_request_in_the_core() -> None:
    streams = CoreStreams(TOKENS)
    async with serving(streams) as front, AsyncClient(front.address) as client:
        result = await client.generate("x", stop=["STOP"], request_id="r")
        assert not streams.knows("r")  # type: ignore[arg-type]
    assert result.text == BEFORE_STOP
    assert result.finish_reason is FinishReason.STOP
    assert result.usage.output_tokens == len(text_tokens(BEFORE_STOP + "STOP"))
    assert "r" in streams.dropped


async def test_a_resumed_stream_continues_where_the_client_is() -> None:
    ask = pb.GenerateRequest(
        text="x", emitted_token_ids=TOKENS[:10], sampling=pb.SamplingParams(seed=1)
    )
    async with (
        serving(CoreStreams(TOKENS)) as front,
        aio.insecure_channel(front.address) as channel,
    ):
        found = [reply async for reply in InferenceStub(channel).Generate(ask)]
    indexes = [token.index for reply in found for token in reply.tokens.tokens]
    assert indexes == list(range(10, len(TOKENS)))
    assert found[-1].finished.usage.output_tokens == len(TOKENS)
