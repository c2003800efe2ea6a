import asyncio
import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from scripted_front import CONTEXT, EOS, SERVED, VOCABULARY
from splitweave.cluster.live.front import limits
from splitweave.cluster.live.front.refusals import Refused
from splitweave.cluster.live.front.validate import (
    INLINE_CHARS_MAX,
    Ask,
    Validator,
    draw_request_id,
    draw_seed,
)
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.blocks import block_hashes
from splitweave.proto.inference_pb2 import GenerateRequest, SamplingParams


def check(ask: GenerateRequest) -> Ask:
    with ThreadPoolExecutor(1) as threads:
        return asyncio.run(Validator(SERVED, threads, seeds=lambda: 7).check(ask))


def violations(ask: GenerateRequest) -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        check(ask)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    (detail,) = caught.value.details
    assert isinstance(detail, error_details_pb2.BadRequest)
    return {item.field: item.description for item in detail.field_violations}


def tokens(*token_ids: int) -> pb.TokenIds:
    return pb.TokenIds(token_ids=token_ids)


def chat(*turns: tuple[str, str]) -> pb.ChatMessages:
    return pb.ChatMessages(messages=[pb.ChatMessage(role=r, content=c) for r, c in turns])


BAD: dict[str, tuple[GenerateRequest, str, str]] = {
    "no prompt": (GenerateRequest(), "prompt", "one of text, chat or token_ids"),
    "empty text": (GenerateRequest(text=""), "text", "at least one character"),
    "empty ids": (GenerateRequest(token_ids=tokens()), "token_ids", "at least one token"),
    "empty chat": (GenerateRequest(chat=chat()), "chat.messages", "at least one message"),
    "no role": (GenerateRequest(chat=chat(("", "x"))), "chat.messages[0].role", "is empty"),
    "bad role": (GenerateRequest(chat=chat(("wizard", "x"))), "chat", "role 'wizard'"),
    "long": (GenerateRequest(text="x" * CONTEXT), "text", f"{CONTEXT} tokens; at most 4095"),
    "foreign id": (GenerateRequest(token_ids=tokens(1, 9999)), "token_ids[1]", "is 9999"),
    "max_tokens 0": (GenerateRequest(text="x", max_tokens=0), "max_tokens", "at least 1"),
    "many stops": (GenerateRequest(text="x", stop=["s"] * 17), "stop", "at most 16"),
    "empty stop": (GenerateRequest(text="x", stop=["s", ""]), "stop[1]", "1 to 256"),
    "long stop": (GenerateRequest(text="x", stop=["s" * 257]), "stop[0]", "has 257"),
    "stop id": (GenerateRequest(text="x", stop_token_ids=[999]), "stop_token_ids[0]", "999"),
    "model": (GenerateRequest(text="x", model="gpt"), "model", "served is 'scripted'"),
    "id": (GenerateRequest(text="x", request_id="a b"), "request_id", "1 to 128 characters"),
    "no seed": (GenerateRequest(text="x", skip_tokens=1), "sampling.seed", "is missing"),
    "many stop ids": (
        GenerateRequest(text="x", stop_token_ids=[1] * 257), "stop_token_ids", "has 257; at most"
    ),
    "many messages": (
        GenerateRequest(chat=chat(*[("user", "x")] * 4097)), "chat.messages", "4097; at most 4096"
    ),
    "emitted id": (
        GenerateRequest(text="x", emitted_token_ids=[1, 999], sampling=SamplingParams(seed=1)),
        "emitted_token_ids[1]", "is 999; the vocabulary has 264 tokens",
    ),
    "long id": (GenerateRequest(text="x", request_id="a" * 129), "request_id", "1 to 128"),
    "empty id": (GenerateRequest(text="x", request_id=""), "request_id", "1 to 128"),
    "date": (
        GenerateRequest(text="x", rendered_at_s=2**62), "rendered_at_s", "at most 253402300799"
    ),
    "both": (
        GenerateRequest(text="x", skip_tokens=1, emitted_token_ids=[1]), "skip_tokens", "together"
    ),
}  # fmt: skip

BAD_SAMPLING: list[tuple[SamplingParams, str, str]] = [
    (SamplingParams(temperature=-0.1), "temperature", "is -0.1; 0 to 100"),
    (SamplingParams(temperature=math.nan), "temperature", "is nan; 0 to 100"),
    (SamplingParams(temperature=math.inf), "temperature", "is inf; 0 to 100"),
    (SamplingParams(top_p=0.0), "top_p", "is 0; above 0, at most 1"),
    (SamplingParams(top_p=1.01), "top_p", "is 1.01"),
    (SamplingParams(top_p=math.nan), "top_p", "is nan"),
    (SamplingParams(min_p=-0.1), "min_p", "is -0.1; 0 to 1"),
    (SamplingParams(min_p=1.5), "min_p", "is 1.5; 0 to 1"),
    (SamplingParams(repetition_penalty=0.0), "repetition_penalty", "above 0"),
    (SamplingParams(repetition_penalty=math.inf), "repetition_penalty", "finite"),
    (SamplingParams(presence_penalty=2.5), "presence_penalty", "is 2.5; -2 to 2"),
    (SamplingParams(frequency_penalty=-2.5), "frequency_penalty", "is -2.5; -2 to 2"),
    (SamplingParams(logprobs=21), "logprobs", "is 21; at most 20"),
    (SamplingParams(seed=2**63), "seed", "at most"),
]


@pytest.mark.parametrize(("ask", "field", "limit"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_by_field_and_limit(
    ask: GenerateRequest, field: str, limit: str
) -> None:
    found = violations(ask)
    assert field in found
    assert limit in found[field]


@pytest.mark.parametrize(("params", "field", "limit"), BAD_SAMPLING)
def test_a_bad_sampling_value_is_refused_by_field_and_limit(
    params: SamplingParams, field: str, limit: str
) -> None:
    found = violations(GenerateRequest(text="x", sampling=params))
    assert list(found) == [f"sampling.{field}"]
    assert limit in found[f"sampling.{field}"]


def test_every_wrong_field_is_named_at_once() -> None:
    ask = GenerateRequest(text="", max_tokens=0, sampling=SamplingParams(temperature=-1))
    assert list(violations(ask)) == ["text", "max_tokens", "sampling.temperature"]


def test_a_request_that_leaves_everything_out_is_greedy_to_the_end_of_the_context() -> None:
    request = check(GenerateRequest(text="hello")).request
    assert request.max_tokens == CONTEXT - 5
    assert request.sampling.temperature == 0.0
    assert request.sampling.top_p == 1.0
    assert request.sampling.repetition_penalty == 1.0
    assert request.sampling.seed == 7
    assert request.sampling.logprobs is None
    assert request.stop_token_ids == {EOS}
    assert request.request_id


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    assert check(GenerateRequest(text="x" * (CONTEXT - 1))).request.max_tokens == 1


def test_max_tokens_beyond_the_context_is_cut_to_its_room() -> None:
    assert check(GenerateRequest(text="xx", max_tokens=10**6)).request.max_tokens == CONTEXT - 2


def test_ignore_eos_keeps_only_the_stop_tokens_given() -> None:
    ask = GenerateRequest(text="x", ignore_eos=True, stop_token_ids=[5])
    assert check(ask).request.stop_token_ids == {5}


def test_hashes_cover_the_prompts_full_blocks() -> None:
    request = check(GenerateRequest(text="x" * 40)).request
    assert request.block_hashes == block_hashes(request.token_ids, 16)
    assert len(request.block_hashes) == 2


def test_a_conversation_is_rendered_by_the_template() -> None:
    request = check(GenerateRequest(chat=chat(("user", "hi")))).request
    assert bytes(request.token_ids) == b"<user>hi"


def test_a_long_prompt_is_tokenized_off_the_event_loop() -> None:
    used: list[str] = []

    class Watched(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):  # noqa: ANN002, ANN003, ANN202
            used.append("thread")
            return super().submit(*args, **kwargs)

    with Watched(1) as threads:
        validator = Validator(SERVED, threads)
        asyncio.run(validator.check(GenerateRequest(text="short")))
        assert used == []
        with pytest.raises(Refused, match="tokens"):
            asyncio.run(validator.check(GenerateRequest(text="x" * (INLINE_CHARS_MAX + CONTEXT))))
        assert used == ["thread"]


def test_what_the_client_has_reaches_the_cluster_as_emitted() -> None:
    ask = check(
        GenerateRequest(text="x", emitted_token_ids=[1, 2], sampling=SamplingParams(seed=3))
    )
    assert ask.request.emitted == (1, 2)
    assert ask.skip_tokens == 2
    assert len(VOCABULARY) > 256


# Every field at the end of its range that is still allowed.
FURTHEST: dict[str, GenerateRequest] = {
    "request_id": GenerateRequest(text="x", request_id="a.B_-:9" + "x" * 121),
    "a retry of the longest id": GenerateRequest(text="x", request_id="x" * 128 + ":retry-999999"),
    "model": GenerateRequest(text="x", model="scripted"),
    "token_ids": GenerateRequest(token_ids=tokens(len(VOCABULARY) - 1)),
    "chat": GenerateRequest(chat=chat(*[("u", "")] * 800)),
    "max_tokens": GenerateRequest(text="x", max_tokens=1),
    "stop": GenerateRequest(text="x", stop=["s" * 256] * 16),
    "stop_token_ids": GenerateRequest(text="x", stop_token_ids=[263] * 256),
    "ignore_eos": GenerateRequest(text="x", ignore_eos=True),
    "skip_tokens": GenerateRequest(text="x", skip_tokens=9, sampling=SamplingParams(seed=0)),
    "emitted_token_ids": GenerateRequest(
        text="x", emitted_token_ids=[263], sampling=SamplingParams(seed=0)
    ),
    "rendered_at_s": GenerateRequest(text="x", rendered_at_s=253_402_300_799),
    "resume_key": GenerateRequest(text="x", resume_key="k" * 128),
    "request_class": GenerateRequest(text="x", request_class=pb.REQUEST_CLASS_BATCH),
}
FURTHEST_SAMPLING: dict[str, tuple[SamplingParams, ...]] = {
    "temperature": (SamplingParams(temperature=0.0), SamplingParams(temperature=100.0)),
    "top_k": (SamplingParams(top_k=0), SamplingParams(top_k=2**32 - 1)),
    "top_p": (SamplingParams(top_p=1e-9), SamplingParams(top_p=1.0)),
    "min_p": (SamplingParams(min_p=0.0), SamplingParams(min_p=1.0)),
    "repetition_penalty": (
        SamplingParams(repetition_penalty=1e-9), SamplingParams(repetition_penalty=1e9),
    ),
    "presence_penalty": (
        SamplingParams(presence_penalty=-2.0), SamplingParams(presence_penalty=2.0),
    ),
    "frequency_penalty": (
        SamplingParams(frequency_penalty=-2.0), SamplingParams(frequency_penalty=2.0),
    ),
    "seed": (SamplingParams(seed=0), SamplingParams(seed=2**63 - 1)),
    "logprobs": (SamplingParams(logprobs=0), SamplingParams(logprobs=20)),
}  # fmt: skip


@pytest.mark.parametrize("ask", FURTHEST.values(), ids=FURTHEST)
def test_the_end_of_every_range_is_allowed(ask: GenerateRequest) -> None:
    check(ask)


@pytest.mark.parametrize("name", FURTHEST_SAMPLING)
def test_the_ends_of_every_sampling_range_are_allowed_and_kept(name: str) -> None:
    for params in FURTHEST_SAMPLING[name]:
        request = check(GenerateRequest(text="x", sampling=params)).request
        assert getattr(request.sampling, name) == getattr(params, name)


def test_a_class_that_is_none_is_refused_and_left_out_is_standard() -> None:
    given = GenerateRequest.FromString(GenerateRequest(text="x").SerializeToString() + b"x\x07")
    with pytest.raises(Refused, match="request_class: is 7; one of 0, 1, 2, 3"):
        check(given)
    told = [check(GenerateRequest(text="x", request_class=n)).request for n in (0, 1, 2, 3)]  # type: ignore[arg-type]
    assert [str(r.request_class) for r in told] == ["standard", "interactive", "standard", "batch"]


def test_no_field_of_the_protocol_is_without_a_case() -> None:
    fields = {field.name for field in GenerateRequest.DESCRIPTOR.fields}
    assert fields - {"text", "sampling"} <= set(FURTHEST)
    assert {field.name for field in SamplingParams.DESCRIPTOR.fields} == set(FURTHEST_SAMPLING)


def test_an_id_of_another_alphabet_is_refused_and_a_newline_is_no_end() -> None:
    for bad in ("a/b", "ü", "a\n", "a:retry-1\n", " a"):
        assert "request_id" in violations(GenerateRequest(text="x", request_id=bad))


def test_a_prompt_of_no_tokens_is_refused_by_its_kind() -> None:
    class Silent:
        def encode(self, text: str) -> list[int]:
            del text
            return []

    served = dataclasses.replace(SERVED, language=Silent())  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads, pytest.raises(Refused, match="text: has no tokens"):
        asyncio.run(Validator(served, threads).check(GenerateRequest(text="x")))


def test_seeds_that_are_drawn_differ_and_are_in_range() -> None:
    seeds = {draw_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed <= limits.SEED_MAX for seed in seeds)
    assert len({draw_request_id() for _ in range(100)}) == 100
