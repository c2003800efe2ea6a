"""KV memory by content: right wherever it lies, wrong as soon as one slot is."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_worlds import batch, chunk, key, request
from splitweave.proto.ids import BlockId, MoveId
from splitweave.proto.move import Copy
from splitweave.sim.content import BlockContent
from splitweave.sim.streams import EMPTY, VOCAB, TrueStream, draw, tag_after

SIZE, LAYERS, BLOCKS = 4, 3, 12
REQUEST = request()
TABLE = (0, 1, 2, 3)


class Memory:
    """One worker's KV, and the truth about the one request in it."""

    def __init__(self) -> None:
        self.truth = TrueStream(REQUEST)
        self.content = BlockContent(BLOCKS, SIZE, LAYERS)

    def run(self, start: int, end: int, table: tuple[int, ...], **changes: Any) -> int | None:
        """Compute the right tokens at [start, end) over `table`; the token drawn."""
        self.truth.upto(end)
        token_ids = tuple(self.truth.token_ids[start:end])
        order = batch(chunk(token_ids, start, table, **changes))
        (sampled,) = self.content.compute(order, lambda _: self.truth)
        return None if sampled is None else sampled.token_id


def _copy(source: tuple[int, ...], target: tuple[int, ...], layers: tuple[int, int]) -> Copy:
    return Copy(
        copy_id="c",
        move_id=MoveId("m"),
        lease=1,
        target=key("b"),
        first_layer=layers[0],
        last_layer=layers[1],
        source_blocks=tuple(BlockId(b) for b in source),
        target_blocks=tuple(BlockId(b) for b in target),
    )


@given(st.permutations(range(BLOCKS)), st.sets(st.integers(1, 9)))
@settings(deadline=None)
def test_any_chunking_in_any_blocks_draws_the_true_tokens(order: list[int], cuts: set[int]) -> None:
    memory, table = Memory(), tuple(order[:4])
    edges = [0, *sorted(cuts), 10]
    for start, end in pairwise(edges):
        token = memory.run(start, end, table, draws=end == 10)
        assert token == (memory.truth.output(0) if end == 10 else None)
    for position in range(10, 15):
        assert memory.run(position, position + 1, table) == memory.truth.output(position - 9)


@given(st.integers(0, 2), st.integers(0, LAYERS - 1), st.integers(0, SIZE - 1))
@settings(deadline=None)
def test_one_foreign_slot_in_one_layer_makes_the_token_wrong(
    block: int, layer: int, slot: int
) -> None:
    memory = Memory()
    memory.run(0, 10, TABLE)
    memory.content._slots[block][layer][slot] ^= 2
    read = block * SIZE + slot < 10
    assert (memory.run(10, 11, TABLE) == memory.truth.output(1)) is not read


def test_what_was_computed_from_wrong_kv_stays_wrong() -> None:
    memory = Memory()
    memory.run(0, 4, (7,))
    assert memory.run(4, 10, (8, 1, 2)) != memory.truth.output(0)
    assert memory.run(10, 11, (7, 1, 2)) != memory.truth.output(1)


def test_computing_again_from_the_start_repairs() -> None:
    memory = Memory()
    memory.run(4, 10, TABLE)
    assert memory.run(0, 10, TABLE) == memory.truth.output(0)


def test_right_kv_and_wrong_tokens_draw_a_wrong_one() -> None:
    memory = Memory()
    memory.run(0, 10, TABLE)
    (sampled,) = memory.content.compute(batch(chunk((1,), 10, TABLE)), lambda _: memory.truth)
    assert sampled is not None
    assert sampled.token_id == (memory.truth.output(1) + 1) % VOCAB


@pytest.mark.parametrize("layers", [(0, LAYERS), (0, 1), (1, LAYERS)])
def test_a_copy_carries_its_layers_and_no_other(layers: tuple[int, int]) -> None:
    memory, target = Memory(), BlockContent(BLOCKS, SIZE, LAYERS)
    memory.run(0, 10, TABLE)
    copy = _copy((0, 2), (5, 9), layers)
    target.write(copy, memory.content.read(copy))
    for source_block, target_block in ((0, 5), (2, 9)):
        for layer in range(LAYERS):
            carried = layers[0] <= layer < layers[1]
            want = memory.content._slots[source_block][layer] if carried else [EMPTY] * SIZE
            assert target._slots[target_block][layer] == want


def test_what_was_read_does_not_change_with_its_source() -> None:
    memory = Memory()
    memory.run(0, 10, TABLE)
    payload = memory.content.read(_copy((0,), (5,), (0, 1)))
    before = [list(slots) for slots in payload[0]]
    memory.content._slots[0][0][0] ^= 2
    assert payload[0] == before


@given(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20), st.data())
def test_tags_tell_every_prefix_apart(token_ids: list[int], data: st.DataObject) -> None:
    first = TrueStream(request(prompt=tuple(token_ids)))
    index = data.draw(st.integers(0, len(token_ids) - 1))
    token_ids[index] = (token_ids[index] + 1) % VOCAB
    second = TrueStream(request(prompt=tuple(token_ids)))
    assert first.tags[:index] == second.tags[:index]
    assert all(a != b for a, b in zip(first.tags[index:], second.tags[index:], strict=True))
    assert EMPTY not in first.tags


def test_a_stream_is_a_function_of_seed_and_prefix_whoever_makes_it_and_when() -> None:
    eager, lazy = TrueStream(REQUEST), TrueStream(REQUEST)
    eager.upto(40)
    outputs = [lazy.output(n) for n in range(30)]
    assert outputs == [eager.output(n) for n in range(30)]
    assert outputs[0] == draw(REQUEST.sampling.seed, lazy.tags[9])
    assert lazy.tags[10] == tag_after(lazy.tags[9], outputs[0])
    other = TrueStream(request(sampling=type(REQUEST.sampling)(seed=6)))
    assert [other.output(n) for n in range(30)] != outputs
