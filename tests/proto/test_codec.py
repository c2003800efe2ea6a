"""Every word of proto goes to JSON and comes back; nothing else comes back."""

import dataclasses
import json
from typing import Any

import pytest
import words
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.codec import CodecError, decode, encode
from splitweave.proto.gateway_events import TokenChunk, TokensEmitted
from splitweave.proto.ids import Epoch, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.requests import FinishReason, SampledToken, TokenLogprobs
from splitweave.proto.timers import SetTimer, TimerFired, TimerKey

each_word = pytest.mark.parametrize("kind", words.WORDS, ids=lambda kind: kind.__name__)
WRONG = {"@": "Nonsense"}  # right for no field at all


def plain(kind: type[Any]) -> Any:
    """The JSON of one word, free to be spoiled."""
    return json.loads(json.dumps(encode(words.default_of(kind))))


def field_names(kind: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def refusal(data: Any) -> str:
    with pytest.raises(CodecError) as caught:
        decode(data)
    return str(caught.value)


@each_word
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_every_word_survives_json(kind: type[Any], data: st.DataObject) -> None:
    word = data.draw(words.values(kind))
    back = decode(json.loads(json.dumps(encode(word))))
    assert back == word
    assert type(back) is kind
    assert hash(back) == hash(word)


@each_word
@settings(max_examples=3, deadline=None)
@given(st.data())
def test_every_word_survives_without_json(kind: type[Any], data: st.DataObject) -> None:
    word = data.draw(words.values(kind))
    assert decode(encode(word)) == word


@each_word
def test_a_missing_field_is_refused_by_name(kind: type[Any]) -> None:
    for name in field_names(kind):
        data = plain(kind)
        del data[name]
        assert refusal(data) == f"{kind.__name__}: missing field {name!r}"


@each_word
def test_an_unknown_field_is_refused_by_name(kind: type[Any]) -> None:
    assert refusal(plain(kind) | {"x_ns": 1}) == f"{kind.__name__}: unknown field 'x_ns'"


@each_word
def test_a_field_of_another_type_is_refused_by_class_and_field(kind: type[Any]) -> None:
    for name in field_names(kind):
        assert refusal(plain(kind) | {name: WRONG}).startswith(f"{kind.__name__}.{name}: ")


@each_word
def test_a_plain_number_or_text_is_no_substitute_for_another(kind: type[Any]) -> None:
    """True is no int, 1.0 is no int, 0 is no text and no bool: what JSON tells apart stays so."""
    hints = {field.name: words.bare(field.type) for field in dataclasses.fields(kind)}
    wrong = {int: (True, 1.0, "1", None), str: (0, None, []), bool: (0, 1, "true"), float: ("1",)}
    for name, hint in hints.items():
        for value in wrong.get(hint, ()):
            expected = f"{kind.__name__}.{name}: expected {hint.__name__}, got "
            assert refusal(plain(kind) | {name: value}).startswith(expected)


def test_a_whole_number_may_stand_for_a_float_but_not_the_reverse() -> None:
    data = encode(TokenLogprobs(token=0.5))
    assert decode(data | {"token": 2}) == TokenLogprobs(token=2.0)


@each_word
def test_fields_are_written_in_the_order_of_the_class(kind: type[Any]) -> None:
    assert list(plain(kind)) == ["@", *field_names(kind)]


CHUNK = TokenChunk(
    request_id=RequestId("ü"),
    epoch=Epoch(1, 2),
    first_index=4,
    tokens=(
        SampledToken(token_id=5, logprobs=TokenLogprobs(token=-0.5, top=((5, -0.5),))),
        SampledToken(token_id=6),
    ),
    finish=FinishReason.STOP,
)
EMITTED = TokensEmitted(worker=WorkerKey(WorkerId("w"), Incarnation(3)), chunks=(CHUNK,))


def test_the_form_on_disk_is_pinned() -> None:
    """A recording of an incident must be readable by later versions."""
    assert json.dumps(encode(EMITTED), ensure_ascii=False) == (
        '{"@": "TokensEmitted", "worker": {"@": "WorkerKey", "worker_id": "w", "incarnation": 3},'
        ' "chunks": [{"@": "TokenChunk", "request_id": "ü",'
        ' "epoch": {"@": "Epoch", "attempt": 1, "hop": 2}, "first_index": 4,'
        ' "tokens": [{"@": "SampledToken", "token_id": 5,'
        ' "logprobs": {"@": "TokenLogprobs", "token": -0.5, "top": [[5, -0.5]]}},'
        ' {"@": "SampledToken", "token_id": 6, "logprobs": null}],'
        ' "finish": "stop", "cached_tokens": 0, "cached_host_tokens": 0,'
        ' "cached_peer_tokens": 0}]}'
    )


@given(st.frozensets(st.integers(0, 99), max_size=8))
def test_a_set_is_written_sorted(ids: frozenset[int]) -> None:
    """So that equal words have equal digests in every process."""
    assert encode(ids) == sorted(ids)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "expected an object with '@', got None"),
        ("TimerFired", "expected an object with '@', got TimerFired"),
        ([], "expected an object with '@'"),
        ({"key": 1}, "expected an object with '@'"),
        ({"@": None}, "expected an object with '@'"),
        ({"@": []}, "expected an object with '@'"),
        ({"@": "Stage"}, "unknown class 'Stage'"),
        ({"@": "object"}, "unknown class 'object'"),
        ({"@": "timerfired"}, "unknown class 'timerfired'"),
        ({"@": "TimerFired", "key": {"@": []}}, "TimerFired.key: expected TimerKey, got"),
        ({"@": "TimerFired", "key": []}, "TimerFired.key: expected TimerKey, got []"),
        ({"@": "TimerFired", "key": None}, "TimerFired.key: expected TimerKey, got None"),
    ],
)
def test_what_names_no_word_is_refused(data: Any, message: str) -> None:
    assert message in refusal(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finish": "tired"}, "TokenChunk.finish: 'tired' is no FinishReason"),
        ({"finish": []}, "TokenChunk.finish: [] is no FinishReason"),
        ({"finish": {}}, "TokenChunk.finish: unexpected {}"),
        ({"tokens": {}}, "TokenChunk.tokens: expected an array, got {}"),
        ({"tokens": "ab"}, "TokenChunk.tokens: expected an array, got ab"),
        ({"tokens": [None]}, "TokenChunk.tokens: expected SampledToken, got None"),
        ({"epoch": {"@": "TimerKey", "kind": "k", "subject": ""}}, "expected Epoch, got"),
    ],
)
def test_a_refusal_says_where_it_happened(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(encode(CHUNK) | changes)


@pytest.mark.parametrize("pair", [[5], [5, 0.5, 1], [], [0.5, 5]])
def test_a_pair_has_two_items_of_their_types(pair: list[Any]) -> None:
    data = {"@": "TokenLogprobs", "token": 0.0, "top": [pair]}
    assert refusal(data).startswith("TokenLogprobs.top: expected ")


@pytest.mark.parametrize("value", [object(), 1j, b"raw", {1: 2}, {1}, int])
def test_what_is_no_word_cannot_be_written(value: object) -> None:
    with pytest.raises(CodecError, match="is not a word of proto"):
        encode(SetTimer(value, 0))  # type: ignore[arg-type]


def test_a_long_wrong_value_does_not_flood_the_message() -> None:
    assert len(refusal({"@": "TimerFired", "key": "x" * 9_000})) < 200
    assert len(refusal(["x" * 9_000])) < 200


def test_decoding_does_not_change_what_it_reads() -> None:
    data = encode(TimerFired(TimerKey("k")))
    before = json.dumps(data)
    decode(data)
    assert json.dumps(data) == before
