"""How copies lie on the wire: nothing is lost, doubled or straddled, whatever the sizes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.workers.live.transport.framing import (
    MARKER,
    frame_bytes,
    marker,
    messages,
    padded,
    unmarked,
)

SEEDED = settings(derandomize=True, deadline=None, max_examples=200)
SIZES = st.lists(st.integers(0, 500), min_size=1, max_size=6)
CHUNKS = st.integers(1, 12).map(lambda sixteenths: 16 * sixteenths)


@SEEDED
@given(sizes=SIZES, chunk_bytes=CHUNKS)
def test_every_byte_of_every_frame_is_in_one_piece_and_in_order(
    sizes: list[int], chunk_bytes: int
) -> None:
    pieces = [piece for message in messages(sizes, chunk_bytes) for piece in message.pieces]
    for copy, size in enumerate(sizes):
        mine = [(piece.first, piece.last) for piece in pieces if piece.copy == copy]
        assert mine[0][0] == 0
        assert mine[-1][1] == frame_bytes(size)
        assert [first for first, _ in mine[1:]] == [last for _, last in mine[:-1]]
    assert [piece.copy for piece in pieces] == sorted(piece.copy for piece in pieces)


@SEEDED
@given(sizes=SIZES, chunk_bytes=CHUNKS)
def test_messages_are_full_but_the_last_which_alone_says_so(
    sizes: list[int], chunk_bytes: int
) -> None:
    cut = list(messages(sizes, chunk_bytes))
    assert all(message.size_bytes == chunk_bytes for message in cut[:-1])
    assert 0 < cut[-1].size_bytes <= chunk_bytes
    assert [message.last for message in cut] == [False] * (len(cut) - 1) + [True]
    assert sum(message.size_bytes for message in cut) == sum(map(frame_bytes, sizes))


@SEEDED
@given(sizes=SIZES, chunk_bytes=CHUNKS)
def test_pieces_are_aligned_and_no_marker_straddles_messages(
    sizes: list[int], chunk_bytes: int
) -> None:
    for message in messages(sizes, chunk_bytes):
        at = 0
        for piece in message.pieces:
            assert piece.at == at
            assert (piece.at % 16, piece.first % 16, piece.last % 16) == (0, 0, 0)
            at += piece.last - piece.first
            if piece.last == frame_bytes(sizes[piece.copy]):
                assert piece.last - piece.first >= MARKER.size
        assert at == message.size_bytes


@pytest.mark.parametrize(("size", "on_the_wire"), [(0, 16), (1, 32), (16, 32), (17, 48)])
def test_a_frame_is_its_copy_padded_with_a_marker(size: int, on_the_wire: int) -> None:
    assert frame_bytes(size) == on_the_wire == padded(size) + 16


def test_a_marker_says_which_copy_it_ends_and_how() -> None:
    done = marker(123, 7, whole=True)
    assert unmarked(done, 123, 7) == ""
    assert "checksum 000000000000007c" in unmarked(done, 124, 7)
    assert "copy 7 where that of copy 8" in unmarked(done, 123, 8)
    assert "could not read" in unmarked(marker(123, 7, whole=False), 123, 7)


def test_each_flipped_bit_of_a_marker_is_noticed() -> None:
    done = marker(0xDEADBEEF, 1000, whole=True)
    for bit in range(8 * len(done)):
        flipped = bytearray(done)
        flipped[bit // 8] ^= 1 << bit % 8
        assert unmarked(bytes(flipped), 0xDEADBEEF, 1000)


@pytest.mark.parametrize("chunk_bytes", [0, -16, 8, 100])
def test_a_chunk_that_is_not_aligned_is_a_bug_of_the_caller(chunk_bytes: int) -> None:
    with pytest.raises(AssertionError):
        list(messages([10], chunk_bytes))
