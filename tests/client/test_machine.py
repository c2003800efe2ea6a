import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.client.ask import generate_request
from splitweave.client.endpoints import parse_addresses
from splitweave.client.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from splitweave.client.machine import GenerationMachine
from splitweave.client.retry import Retry, RetryPolicy
from splitweave.proto import inference_pb2 as pb

TOKENS = list(range(100, 130))


def machine() -> GenerationMachine:
    retry = Retry(RetryPolicy(tries_max=99), None, random.Random(0))
    return GenerationMachine(generate_request("x", {}), retry)


def having(sut: GenerationMachine) -> list[int]:
    """The tokens that the next call says it has."""
    _, message = sut.call()
    return list(message.request.emitted_token_ids) if isinstance(message, pb.ResumeRequest) else []


def tokens(start: int, stop: int) -> pb.GenerateReply:
    """Tokens of the one answer there is, whoever sends them."""
    new = [pb.Token(index=i, token_id=TOKENS[i], text=f"{i},") for i in range(start, stop)]
    return pb.GenerateReply(tokens=pb.Tokens(tokens=new))


FINISHED = pb.GenerateReply(finished=pb.Finished(finish_reason=pb.FINISH_REASON_LENGTH))


@given(st.lists(st.integers(0, 12)), st.integers(1, 7), st.integers(0, 5))
def test_no_break_loses_or_repeats_a_token(breaks: list[int], batch: int, overlap: int) -> None:
    sut = machine()
    told: list[int] = []
    for length in [*breaks, len(TOKENS)]:
        start = max(0, len(having(sut)) - overlap)  # a careless server
        end = min(start + length, len(TOKENS))
        for first in range(start, end, batch):
            delta = sut.take(tokens(first, min(first + batch, end)))
            told += [token.index for token in delta.tokens] if delta else []
        if end < len(TOKENS):
            sut.failed(Unavailable("broken"), 0.0)
    sut.take(FINISHED)
    assert sut.result is not None
    assert told == list(range(len(TOKENS)))
    assert sut.result.token_ids == tuple(TOKENS)
    assert sut.result.text == "".join(f"{index}," for index in range(len(TOKENS)))


def test_each_resume_has_a_higher_number_than_the_one_before() -> None:
    """By which the service tells the call that listens now from a late double."""
    sut = machine()
    sut.take(tokens(0, 2))
    numbers = []
    for _ in range(3):
        sut.failed(Unavailable("broken"), 0.0)
        method, message = sut.call()
        assert method == "Resume"
        numbers.append(message.resumes)
    assert numbers == [1, 2, 3]


def test_a_gap_is_a_broken_stream_and_nothing_of_it_is_taken() -> None:
    sut = machine()
    sut.take(tokens(0, 2))
    with pytest.raises(Unavailable, match="token 5 came, 2 is next"):
        sut.take(tokens(5, 6))
    sut.failed(Unavailable("gap"), 0.0)
    assert having(sut) == TOKENS[:2]


def test_a_stream_that_ends_without_its_end_is_broken() -> None:
    sut = machine()
    sut.take(tokens(0, 2))
    assert isinstance(sut.broken(), Unavailable)
    sut.take(FINISHED)
    assert sut.broken() is None


def test_errors_that_retrying_cannot_mend_are_raised_at_once() -> None:
    with pytest.raises(NotFound):
        machine().failed(NotFound("gone"), 0.0)


def test_waits_grow_to_their_bound_and_start_anew_with_progress() -> None:
    retry = Retry(RetryPolicy(tries_max=99), None, random.Random(0))
    waits = [retry.failed(Unavailable("x"), 0.0) for _ in range(9)]
    for number, wait_s in enumerate(waits):
        full_s = min(0.1 * 2**number, 5.0)
        assert full_s / 2 <= wait_s <= full_s
    retry.progressed()
    assert retry.failed(Unavailable("x"), 0.0) <= 0.1


def test_a_wait_is_never_shorter_than_the_server_asked() -> None:
    retry = Retry(RetryPolicy(), None, random.Random(0))
    assert retry.failed(Overloaded("full", retry_after_s=7.0), 0.0) == 7.0


def test_a_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    retry = Retry(RetryPolicy(), 10.0, random.Random(0))
    with pytest.raises(Overloaded):
        retry.failed(Overloaded("full", retry_after_s=7.0), 4.0)


@pytest.mark.parametrize(
    ("prompt", "options", "field"),
    [
        (b"raw", {}, "prompt"),
        (None, {}, "prompt"),
        ("\ud800", {}, "text"),
        ([1, -2], {}, "token_ids"),
        ([1, "a"], {}, "token_ids"),
        ([{"role": "user"}], {}, "chat.messages[0]"),
        ([{"role": "user", "content": 3}], {}, "chat.messages[0].content"),
        ("x", {"max_tokens": -1}, "max_tokens"),
        ("x", {"max_tokens": "many"}, "max_tokens"),
        ("x", {"top_k": -1}, "sampling.top_k"),
        ("x", {"seed": -1}, "sampling.seed"),
        ("x", {"temperature": "hot"}, "sampling.temperature"),
        ("x", {"stop_token_ids": [-1]}, "stop_token_ids"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_field(
    prompt: object, options: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generate_request(prompt, options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_one_stop_string_is_not_a_list_of_its_letters() -> None:
    assert list(generate_request("x", {"stop": "END"}).stop) == ["END"]


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="unknown option 'temprature'; the options are max_tokens"):
        generate_request("x", {"temprature": 1.0})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("address", ["", "host", "host:", ":70", "host:0", "host:x", "a:1,,b:2"])
def test_a_bad_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="host:port"):
        parse_addresses(address)


def test_several_addresses_are_separated_by_commas() -> None:
    assert parse_addresses("a:1, b:2") == parse_addresses(["a:1", "b:2"]) == ("a:1", "b:2")
