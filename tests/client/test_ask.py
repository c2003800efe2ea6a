"""Arguments of the SDK as fields of the wire: each arrives where it belongs, or is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.client import calls, endpoints
from splitweave.client.ask import Options, generate_request
from splitweave.client.endpoints import parse_addresses
from splitweave.client.errors import InvalidRequest
from splitweave.client.operations import Operations
from splitweave.client.retry import RetryPolicy
from splitweave.proto import inference_pb2 as pb

# Every option: where it goes, and a value that is not the default.
REACHES: dict[str, tuple[str, Any]] = {
    "max_tokens": ("max_tokens", 9),
    "stop": ("stop", ["a", "b"]),
    "stop_token_ids": ("stop_token_ids", [3, 4]),
    "ignore_eos": ("ignore_eos", True),
    "temperature": ("sampling.temperature", 0.5),
    "top_k": ("sampling.top_k", 7),
    "top_p": ("sampling.top_p", 0.25),
    "min_p": ("sampling.min_p", 0.125),
    "repetition_penalty": ("sampling.repetition_penalty", 1.5),
    "presence_penalty": ("sampling.presence_penalty", -0.5),
    "frequency_penalty": ("sampling.frequency_penalty", 0.75),
    "seed": ("sampling.seed", 2**63),
    "logprobs": ("sampling.logprobs", 5),
    "model": ("model", "m"),
    "request_id": ("request_id", "r"),
    "rendered_at_s": ("rendered_at_s", 1_700_000_000),
    "request_class": ("request_class", "batch"),
}


def at(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return list(message) if isinstance(REACHES[name][1], list) else message


def test_the_table_has_every_option() -> None:
    assert set(REACHES) == set(Options.__annotations__) - {"timeout_s"}


@pytest.mark.parametrize("name", REACHES)
def test_an_option_reaches_its_field_and_no_other(name: str) -> None:
    path, value = REACHES[name]
    ask = generate_request("x", {name: value})  # type: ignore[misc]
    assert at(ask, path) == (pb.REQUEST_CLASS_BATCH if name == "request_class" else value)
    top = {field.name for field, _ in ask.ListFields()}
    assert top == {"text", "request_id", path.split(".", maxsplit=1)[0]}
    if path.startswith("sampling."):
        assert [field.name for field, _ in ask.sampling.ListFields()] == [name]


@pytest.mark.parametrize("value", ["Batch", "", 3, None])
def test_a_class_that_is_none_is_refused_with_those_there_are(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="one of interactive, standard, batch"):
        generate_request("x", {"request_class": value})


@pytest.mark.parametrize("name", ["top_p", "repetition_penalty", "seed", "logprobs"])
def test_zero_is_not_left_out_where_they_differ(name: str) -> None:
    assert generate_request("x", {name: 0}).sampling.HasField(name)  # type: ignore[misc]
    assert not generate_request("x", {}).sampling.HasField(name)


def test_the_timeout_is_the_clients_own_business() -> None:
    assert generate_request("x", {"timeout_s": 3.0, "request_id": "r"}) == generate_request(
        "x", {"request_id": "r"}
    )


def test_an_id_is_drawn_anew_for_each_request_that_names_none() -> None:
    ids = {generate_request("x", {}).request_id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(item) <= 128 for item in ids)


@given(st.text(), st.lists(st.integers(0, 2**32 - 1)), st.lists(st.tuples(st.text(), st.text())))
def test_every_prompt_is_sent_as_it_is(
    text: str, ids: list[int], turns: list[tuple[str, str]]
) -> None:
    assert generate_request(text, {}).text == text
    assert list(generate_request(ids, {}).token_ids.token_ids) == ids
    assert generate_request(tuple(ids), {}).WhichOneof("prompt") == "token_ids"
    messages = [{"role": role, "content": content} for role, content in turns]
    sent = generate_request(messages, {})  # type: ignore[arg-type]
    assert [(item.role, item.content) for item in sent.chat.messages] == turns


def refusal(make: Callable[[], object]) -> InvalidRequest | None:
    """How it was refused; None if it was not. Any other error passes."""
    try:
        make()
    except InvalidRequest as refused:
        return refused
    return None


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just([-1]),
    st.just("\ud800"), st.just(["\ud800"]), st.just({}), st.just([None]), st.just(10**400),
)  # fmt: skip


@pytest.mark.parametrize("name", REACHES)
@given(value=ANYTHING)
def test_whatever_an_option_is_it_is_sent_or_refused_by_name(name: str, value: Any) -> None:
    refused = refusal(lambda: generate_request("x", {name: value}))  # type: ignore[misc]
    if refused is not None:
        assert refused.field == REACHES[name][0]
        assert str(refused).startswith(f"{refused.field}: ")


@given(ANYTHING | st.lists(ANYTHING, max_size=3))
def test_whatever_a_prompt_is_it_is_sent_or_refused(prompt: Any) -> None:
    refused = refusal(lambda: generate_request(prompt, {}))
    if refused is not None:
        field, _, _ = refused.field.partition("[")
        assert field in ("prompt", "text", "token_ids", "chat.messages")


def test_what_no_message_can_hold_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="at most 16777216 in one message") as caught:
        generate_request("x" * endpoints.MESSAGE_BYTES_MAX, {})
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: calls.cancel(3), "request_id"),  # type: ignore[arg-type]
        (lambda: calls.cancel("\ud800"), "request_id"),
        (lambda: calls.drain("w", "soon"), "deadline_s"),  # type: ignore[arg-type]
        (lambda: calls.migrate("r", 3), "target_worker_id"),  # type: ignore[arg-type]
        (lambda: calls.set_role("w", "cook"), "role"),
        (lambda: calls.set_role("w", []), "role"),  # type: ignore[arg-type]
    ],
)
def test_a_call_that_cannot_be_sent_is_refused_by_field(make: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.field == field


@pytest.mark.parametrize("timeout_s", ["3", -1, -0.001, float("nan"), [1], 1j])
def test_a_timeout_that_is_no_time_is_refused(timeout_s: Any) -> None:
    for options in ({"timeout_s": timeout_s}, {}):
        with pytest.raises(InvalidRequest, match="seconds, at least 0"):
            Operations("h:1", timeout_s, RetryPolicy()).generation("x", options)
    with pytest.raises(InvalidRequest, match="timeout_s: is "):
        Operations("h:1", None, RetryPolicy()).generation("x", {"timeout_s": timeout_s})


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e30, None])
def test_a_timeout_beyond_all_clocks_is_none(timeout_s: float | None) -> None:
    operations = Operations("h:1", 5.0, RetryPolicy())
    machine = operations.generation("x", {"timeout_s": timeout_s})  # type: ignore[typeddict-item]
    assert operations.remaining_s(machine) is None


def test_an_operations_own_timeout_replaces_the_clients() -> None:
    operations = Operations("h:1", 500.0, RetryPolicy())
    for options, least_s, most_s in (({}, 400.0, 500.0), ({"timeout_s": 9e3}, 8e3, 9e3)):
        remaining_s = operations.remaining_s(operations.generation("x", options))  # type: ignore[arg-type]
        assert remaining_s is not None
        assert least_s < remaining_s <= most_s


@given(st.text(max_size=8), st.text(max_size=6))
def test_whatever_an_address_is_it_is_taken_or_refused(host: str, port: str) -> None:
    address = f"{host}:{port}"
    refused = refusal(lambda: parse_addresses([address]))
    if refused is None:
        assert 0 < int(address.strip().rpartition(":")[2]) < 65536
    else:
        assert refused.field == "address"


@pytest.mark.parametrize("port", ["²", "７０", "1" * 5_000, "-1", "65536", "+80", "1e3"])
def test_a_port_is_a_number_in_plain_digits(port: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 65535"):
        parse_addresses(f"host:{port}")
