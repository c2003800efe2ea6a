"""One generation against a server that may say anything, in any order, and break at any time."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.client.ask import generate_request
from splitweave.client.errors import Cancelled, Overloaded, Refused, ServerError, Unavailable
from splitweave.client.machine import GenerationMachine
from splitweave.client.retry import Retry, RetryPolicy
from splitweave.proto import inference_pb2 as pb
from wire_server import accepted, finished, tokens

OUTPUT = 12
INDEXES = st.lists(st.integers(0, OUTPUT), max_size=5)  # also gaps, doubles, any order
MESSAGES = st.one_of(
    INDEXES.map(lambda indexes: tokens(*indexes)),
    st.tuples(st.integers(0, OUTPUT), st.integers(1, 5)).map(
        lambda start_and_count: tokens(*range(start_and_count[0], sum(start_and_count)))
    ),
    st.integers(1, 9).map(accepted),
    st.just(pb.GenerateReply()),  # an event of a newer server
)
FAILURES = st.sampled_from([Unavailable("broken"), Overloaded("full", 0.5)])
# A call: what arrives, then how it breaks off.
CALLS = st.lists(st.tuples(st.lists(MESSAGES, max_size=6), FAILURES), max_size=8)


def machine(tries_max: int = 99, **options: object) -> GenerationMachine:
    ask = generate_request("x", options)  # type: ignore[arg-type]
    policy = RetryPolicy(tries_max=tries_max, resume_tries_max=tries_max)
    return GenerationMachine(ask, Retry(policy, None, random.Random(0)))


def having(sut: GenerationMachine) -> list[int]:
    """The tokens that the next call says it has."""
    _, message = sut.call()
    return list(message.request.emitted_token_ids) if isinstance(message, pb.ResumeRequest) else []


def told(sut: GenerationMachine, messages: list[pb.GenerateReply]) -> list[int]:
    """The indexes of the tokens that the messages bring; a broken stream brings no more."""
    indexes: list[int] = []
    for message in messages:
        try:
            delta = sut.take(message)
        except Unavailable:
            break
        if delta is not None and delta.tokens:
            assert delta.text == "".join(token.text for token in delta.tokens)
            indexes += [token.index for token in delta.tokens]
    return indexes


@settings(max_examples=200, deadline=None)
@given(CALLS)
def test_no_token_is_lost_repeated_or_out_of_place_whatever_comes(
    calls: list[tuple[list[pb.GenerateReply], Unavailable]],
) -> None:
    sut = machine()
    seen: list[int] = []
    for messages, failure in calls:
        assert having(sut) == [100 + index for index in seen]
        seen += told(sut, messages)
        assert seen == list(range(len(seen)))
        sut.failed(failure, 0.0)
    rest = [tokens(*range(len(seen), OUTPUT + 5)), finished("end")]
    seen += told(sut, rest)
    assert sut.result is not None
    assert [token.index for token in sut.result.tokens] == seen == list(range(OUTPUT + 5))
    assert sut.result.text == "".join(f"{index}," for index in seen) + "end"
    assert sut.result.retries == len(calls)


@given(CALLS)
def test_what_was_accepted_is_resumed_and_all_else_is_asked_anew_under_an_id_of_its_own(
    calls: list[tuple[list[pb.GenerateReply], Unavailable]],
) -> None:
    sut = machine(request_id="mine", temperature=0.5, max_tokens=40, stop=["a", "b"], top_k=3)
    _, first = sut.call()
    resumes = 0
    for number, (messages, failure) in enumerate(calls, 1):
        told(sut, messages)
        sut.failed(failure, 0.0)
        method, message = sut.call()
        again = pb.GenerateRequest()
        if isinstance(message, pb.ResumeRequest):
            resumes += 1
            assert (method, message.resumes) == ("Resume", resumes)
            assert message.tokens_received == len(message.request.emitted_token_ids)
            assert message.request.request_id == message.request_id
            again.CopyFrom(message.request)
            assert again.sampling.HasField("seed")
        else:
            assert (method, message.request_id) == ("Generate", f"mine:retry-{number}")
            assert resumes == 0
            again.CopyFrom(message)
        again.ClearField("emitted_token_ids")
        again.ClearField("rendered_at_s")
        again.sampling.ClearField("seed")
        again.request_id = "mine"
        assert again == first
    assert sut.request_id == "mine"


@given(st.lists(MESSAGES | st.just(finished("more")), max_size=6), FAILURES)
def test_nothing_that_follows_the_end_changes_the_answer(
    late: list[pb.GenerateReply], failure: Unavailable
) -> None:
    sut = machine(tries_max=1)
    sut.take(tokens(0, 1))
    sut.take(finished("!"))
    result = sut.result
    assert [sut.take(message) for message in late] == [None] * len(late)
    assert sut.failed(failure, 0.0) == 0.0
    assert sut.broken() is None
    assert sut.result is sut.complete() is result


@pytest.mark.parametrize("indexes", [(2, 4), (2, 2), (3, 2), (2, 3, 5), (2, 3, 3)])
def test_a_message_that_is_not_in_order_is_a_broken_stream(indexes: tuple[int, ...]) -> None:
    sut = machine()
    sut.take(tokens(0, 1))
    with pytest.raises(Unavailable, match=r"token \d came, \d is next"):
        sut.take(tokens(*indexes))
    sut.failed(Unavailable("gap"), 0.0)
    assert having(sut) == [100, 101]


def test_a_stream_that_advances_between_breaks_is_never_given_up() -> None:
    sut = machine(tries_max=2)
    for index in range(20):
        sut.take(tokens(index))
        sut.failed(Unavailable("x"), 0.0)
    assert len(having(sut)) == 20


def test_only_new_tokens_renew_patience() -> None:
    sut = machine(tries_max=3)
    sut.take(tokens(0))
    for message in (accepted(), tokens(0)):
        sut.take(message)
        sut.failed(Unavailable("x"), 0.0)
    with pytest.raises(Unavailable):
        sut.failed(Unavailable("x"), 0.0)


def test_a_retry_repeats_the_seed_in_force_and_the_time_of_rendering() -> None:
    sut = machine()
    reply = accepted(seed=2**63 - 1)
    reply.accepted.rendered_at_s = 1_700_000_000
    sut.take(reply)
    sut.take(tokens(0))
    sut.failed(Unavailable("x"), 0.0)
    _, message = sut.call()
    assert isinstance(message, pb.ResumeRequest)
    assert message.request.sampling.seed == 2**63 - 1
    assert message.request.rendered_at_s == 1_700_000_000
    sut.take(finished())
    assert sut.complete().seed == 2**63 - 1
    assert sut.complete().rendered_at_s == 1_700_000_000


def test_a_stream_that_was_accepted_keeps_its_seed_also_without_a_token() -> None:
    sut = machine()
    sut.take(accepted(seed=5))
    sut.failed(Unavailable("x"), 0.0)
    _, message = sut.call()
    assert isinstance(message, pb.ResumeRequest)
    assert message.request.sampling.seed == 5
    sut.take(accepted(seed=5))
    sut.take(finished())
    assert sut.complete().seed == 5


def test_what_was_not_accepted_is_free_to_draw_another_seed() -> None:
    sut = machine()
    sut.failed(Unavailable("x"), 0.0)
    method, message = sut.call()
    assert method == "Generate"
    assert isinstance(message, pb.GenerateRequest)
    assert not message.sampling.HasField("seed")


def test_a_resume_that_the_service_refuses_is_made_once_more_and_recovered() -> None:
    sut = machine()
    sut.take(accepted())
    sut.take(tokens(0))
    sut.failed(Unavailable("x"), 0.0)
    sut.call()
    sut.failed(Refused("tokens_received: is 1, but only 0 tokens were sent"), 0.0)
    method, message = sut.call()
    assert method == "Resume"
    assert isinstance(message, pb.ResumeRequest)
    assert (message.resumes, message.tokens_received) == (2, 1)


def test_a_refusal_of_what_was_not_resumed_is_final() -> None:
    with pytest.raises(Refused):
        machine().failed(Refused("no"), 0.0)


@pytest.mark.parametrize("reason", [pb.FINISH_REASON_ERROR, pb.FINISH_REASON_UNSPECIFIED, 99])
def test_an_end_that_is_none_we_know_is_the_servers_error(reason: int) -> None:
    sut = machine()
    message = pb.GenerateReply(finished=pb.Finished(message="out of luck"))
    message.finished.finish_reason = reason  # type: ignore[assignment]
    with pytest.raises(ServerError, match="out of luck"):
        sut.take(message)
    assert sut.result is None


def test_what_ended_a_stream_is_what_its_result_raises() -> None:
    sut = machine(tries_max=1)
    with pytest.raises(Cancelled, match="closed before its end"):
        sut.complete()
    error = Overloaded("full", 3.0)
    with pytest.raises(Overloaded):
        sut.failed(error, 0.0)
    with pytest.raises(Overloaded) as caught:
        sut.complete()
    assert caught.value is error


def test_what_was_asked_is_not_changed_by_retries() -> None:
    ask = generate_request("x", {"request_id": "r"})
    before = ask.SerializeToString()
    sut = GenerationMachine(ask, Retry(RetryPolicy(), None, random.Random(0)))
    sut.take(tokens(0))
    sut.failed(Unavailable("x"), 0.0)
    sut.call()
    assert ask.SerializeToString() == before
