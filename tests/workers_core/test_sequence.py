from typing import Any

import pytest
from solo import request_of
from splitweave.proto.blocks import block_hashes
from splitweave.proto.ids import Epoch
from splitweave.proto.requests import FinishReason, SampledToken, SamplingParams
from splitweave.proto.views import Phase
from splitweave.workers.core.sequence import Sequence

CONTEXT = 100


def sequence_of(prompt: range | int = 10, emitted: tuple[int, ...] = (), **more: Any) -> Sequence:
    request = request_of("r", prompt, emitted=emitted, **more)
    outputs = [SampledToken(token_id=token_id) for token_id in emitted]
    return Sequence(request, outputs, Epoch(0), 4)


def append(sequence: Sequence, *token_ids: int) -> None:
    for token_id in token_ids:
        sequence.append(SampledToken(token_id=token_id))


def test_it_knows_prompt_and_what_was_emitted_elsewhere() -> None:
    sequence = sequence_of(range(3), (8, 9))
    assert sequence.token_ids == [0, 1, 2, 8, 9]
    assert (sequence.known, sequence.remaining, sequence.drawn) == (5, 5, 0)


def test_blocks_for_rounds_up() -> None:
    assert [sequence_of().blocks_for(tokens) for tokens in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]


def test_given_hashes_are_taken_as_they_are() -> None:
    salted = block_hashes(range(10), 4, salt="tenant")
    assert sequence_of(range(10), block_hashes=salted).hashes == list(salted)


def test_missing_hashes_are_computed() -> None:
    assert sequence_of(range(10)).hashes == list(block_hashes(range(10), 4))


def test_hashes_for_another_block_size_are_not_taken() -> None:
    sequence = sequence_of(range(10), block_hashes=block_hashes(range(10), 2))
    assert sequence.hashes == list(block_hashes(range(10), 4))


def test_output_extends_the_chain_of_a_salted_prompt() -> None:
    salted = block_hashes(range(10), 4, salt="tenant")
    sequence = sequence_of(range(10), block_hashes=salted)
    append(sequence, 70, 71)
    assert sequence.hashes == list(block_hashes([*range(10), 70, 71], 4, salt="tenant"))


def test_emitted_tokens_extend_the_chain_at_once() -> None:
    sequence = sequence_of(range(3), (8, 9, 10, 11, 12))
    assert sequence.hashes == list(block_hashes([0, 1, 2, 8, 9, 10, 11, 12], 4))


def test_a_follow_up_turn_finds_what_decode_made() -> None:
    first = sequence_of(range(6))
    append(first, 50, 51, 52, 53)
    follow_up = sequence_of(10, ()).__class__(
        request_of("s", [*range(6), 50, 51, 52, 53, 90]), (), Epoch(0), 4
    )
    assert follow_up.hashes == first.hashes


def test_it_ends_with_a_stop_token() -> None:
    sequence = sequence_of(stop_token_ids=frozenset({5}))
    append(sequence, 4)
    assert sequence.finish_reason(CONTEXT) is None
    append(sequence, 5)
    assert sequence.finish_reason(CONTEXT) is FinishReason.STOP


def test_a_stop_token_in_the_prompt_does_not_end_it() -> None:
    sequence = sequence_of(range(3), stop_token_ids=frozenset({2}))
    assert sequence.finish_reason(CONTEXT) is None


def test_emitted_tokens_count_towards_max_tokens() -> None:
    sequence = sequence_of(10, (1, 2), max_tokens=3)
    assert sequence.finish_reason(CONTEXT) is None
    append(sequence, 3)
    assert sequence.finish_reason(CONTEXT) is FinishReason.LENGTH


def test_stop_wins_over_length() -> None:
    sequence = sequence_of(max_tokens=1, stop_token_ids=frozenset({5}))
    append(sequence, 5)
    assert sequence.finish_reason(CONTEXT) is FinishReason.STOP


def test_a_full_context_ends_it() -> None:
    sequence = sequence_of(10)
    append(sequence, 1)
    assert sequence.finish_reason(12) is None
    assert sequence.finish_reason(11) is FinishReason.LENGTH


def test_the_draw_is_at_the_position_after_all_known_tokens() -> None:
    sequence = sequence_of(10, (1,))
    draw = sequence.draw()
    assert (draw.position, draw.history, draw.prompt_tokens) == (11, (), 0)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(repetition_penalty=1.1),
        SamplingParams(presence_penalty=0.1),
        SamplingParams(frequency_penalty=0.1),
    ],
)
def test_penalties_are_given_the_history(sampling: SamplingParams) -> None:
    sequence = sequence_of(range(3), sampling=sampling)
    append(sequence, 9)
    draw = sequence.draw()
    assert (draw.position, draw.history, draw.prompt_tokens) == (4, (0, 1, 2, 9), 3)


def test_a_view_shows_epoch_phase_and_counts() -> None:
    sequence = sequence_of(10, (1, 2))
    sequence.epoch = Epoch(1, 2)
    held = sequence.held()
    assert (held.epoch, held.phase) == (Epoch(1, 2), Phase.WAITING)
    assert (held.known_tokens, held.output_tokens) == (12, 2)
