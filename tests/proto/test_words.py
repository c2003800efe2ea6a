"""What holds of every word, and what the few words with arithmetic of their own compute."""

import copy
import dataclasses
import pickle
import typing
from collections import Counter
from enum import Enum
from typing import Any

import pytest
import words
from hypothesis import given
from hypothesis import strategies as st
from splitweave.proto import effects, gateway_events
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, GatewayId, RequestId
from splitweave.proto.requests import Request, SamplingParams
from splitweave.proto.timers import TimerFired

each_word = pytest.mark.parametrize("kind", words.WORDS, ids=lambda kind: kind.__name__)
# Said without keywords, because they are said everywhere.
SHORT = {
    "ClearTimer", "Epoch", "SetTimer", "TimerFired", "TimerKey", "ToController", "ToGateway",
    "ToWorker", "WorkerKey",
}  # fmt: skip


def hints_within(hint: Any) -> set[Any]:
    """A type hint and all its parts, down to the classes."""
    hint = words.bare(hint)
    return {hint}.union(*[hints_within(item) for item in typing.get_args(hint)])


@each_word
def test_a_word_cannot_be_changed_nor_given_more(kind: type[Any]) -> None:
    word = words.default_of(kind)
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(word, field.name, None)
    assert not hasattr(word, "__dict__")


@each_word
def test_a_word_is_a_value(kind: type[Any]) -> None:
    """Equal, hashed, copied and pickled by its fields: Ray carries it, sets hold it."""
    word = words.default_of(kind)
    again = words.default_of(kind)
    assert word == again
    assert hash(word) == hash(again)
    assert word == pickle.loads(pickle.dumps(word)) == copy.deepcopy(word)  # noqa: S301


@each_word
def test_a_word_is_said_with_keywords_but_for_the_shortest(kind: type[Any]) -> None:
    positional = [field.name for field in dataclasses.fields(kind) if not field.kw_only]
    assert not positional or kind.__name__ in SHORT


@each_word
def test_a_word_holds_nothing_that_could_change_under_it(kind: type[Any]) -> None:
    allowed = (bool, float, int, str, type(None), Ellipsis)
    for hint in typing.get_type_hints(kind).values():
        for part in hints_within(hint):
            named = part in allowed or part in words.WORDS
            shape = typing.get_origin(part) in (tuple, frozenset) or typing.get_args(part)
            assert named or shape or issubclass(part, Enum), f"{kind.__name__}: {part}"


@each_word
def test_times_are_whole_nanoseconds(kind: type[Any]) -> None:
    """`Speed` alone is fractional: it is a fit, not a time."""
    for name, hint in typing.get_type_hints(kind).items():
        assert not name.endswith(("_s", "_ms", "_us")), f"{kind.__name__}.{name}"
        if name.endswith("_ns") and kind.__name__ != "Speed":
            assert float not in hints_within(hint), f"{kind.__name__}.{name}"


@each_word
def test_every_word_says_what_it_is(kind: type[Any]) -> None:
    assert kind.__doc__ is not None
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "dataclass's own signature"


def test_no_two_words_share_a_name() -> None:
    names = Counter(kind.__name__ for kind in words.WORDS)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_event_and_effect_is_in_the_union_of_whom_it_concerns() -> None:
    """Else `step` would never be asked to handle it, and the type checker would not miss it."""
    spoken = [
        kind
        for module in words.MODULES
        if module.__name__.endswith(("_events", "effects"))
        for kind in words.own_dataclasses(module)
    ]
    included = {kind for union in words.UNIONS for kind in words.members(union)}
    nested = {gateway_events.TokenChunk, effects.StreamAccount, effects.DrainReport}
    assert set(spoken) - included == nested


@pytest.mark.parametrize("union", words.UNIONS, ids=["C", "CE", "GE", "WE", "G", "W"])
def test_every_core_that_can_set_a_timer_hears_it(union: Any) -> None:
    included = words.members(union)
    assert TimerFired in included or {effects.SetTimer, effects.ClearTimer} <= set(included)


IDS = st.lists(st.integers(0, 9), max_size=6).map(tuple)


@given(IDS, IDS)
def test_what_must_be_computed_before_the_next_token_is_prompt_and_output(
    prompt: tuple[int, ...], emitted: tuple[int, ...]
) -> None:
    request = Request(
        request_id=RequestId("r"), gateway_id=GatewayId("g"), token_ids=prompt, max_tokens=9,
        emitted=emitted,
    )  # fmt: skip
    assert request.prompt_tokens == len(prompt)
    assert request.known_tokens == len(prompt + emitted)
    grown = dataclasses.replace(request, emitted=(*emitted, 1))
    assert grown.known_tokens == request.known_tokens + 1
    assert grown.prompt_tokens == request.prompt_tokens


@pytest.mark.parametrize("field", dataclasses.fields(SamplingParams), ids=lambda field: field.name)
def test_history_is_needed_exactly_where_a_penalty_is_on(field: dataclasses.Field[Any]) -> None:
    assert not SamplingParams().needs_history
    changed = dataclasses.replace(SamplingParams(), **{field.name: 0.5})
    assert changed.needs_history == field.name.endswith("_penalty")
    if changed.needs_history:
        negative = dataclasses.replace(SamplingParams(), **{field.name: -0.5})
        assert negative.needs_history


def chunk(token_ids: tuple[int, ...], start: int) -> Chunk:
    blocks = tuple(BlockId(index) for index in range(8))
    draw = Draw(params=SamplingParams(), position=start + len(token_ids))
    return Chunk(
        request_id=RequestId("r"), token_ids=token_ids, start=start, block_table=blocks, draw=draw
    )


@given(IDS, st.integers(0, 99))
def test_a_chunk_ends_where_the_next_one_begins(token_ids: tuple[int, ...], start: int) -> None:
    first = chunk(token_ids, start)
    assert len(range(start, first.end)) == len(token_ids)
    assert chunk((1,), first.end).end == first.end + 1


@given(st.lists(IDS, max_size=5))
def test_a_batch_counts_the_tokens_of_all_its_chunks(parts: list[tuple[int, ...]]) -> None:
    batch = Batch(iteration=1, chunks=tuple(chunk(part, 3) for part in parts))
    assert batch.tokens == len([token_id for part in parts for token_id in part])
