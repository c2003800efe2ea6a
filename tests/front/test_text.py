from hypothesis import given
from hypothesis import strategies as st
from scripted_front import EOS, VOCABULARY, Utf8Decoder
from splitweave.cluster.live.front.text import StopMatcher, TextStream

ALPHABET = st.text("abc", max_size=4)


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the stop that completes first begins; of several, the longest."""
    for end in range(1, len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return min(begins)
    return None


@given(st.lists(ALPHABET), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_emitted_text_is_the_text_before_the_first_stop_however_it_is_cut(
    pieces: list[str], stops: list[str]
) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces)
    shown += "" if matcher.found else matcher.flush()
    text = "".join(pieces)
    start = first_stop(text, stops)
    assert shown == (text if start is None else text[:start])
    assert matcher.found == (start is not None)


@given(st.lists(ALPHABET), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_text_once_shown_is_never_part_of_a_stop(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    start = first_stop("".join(pieces), stops)
    shown = 0
    for piece in pieces:
        shown += len(matcher.push(piece))
        assert start is None or shown <= start


@given(st.lists(ALPHABET), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_could_begin_a_stop(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces)
    held = "".join(pieces)[len(shown) :]
    assert matcher.found or not held or any(stop.startswith(held) for stop in stops)


@given(st.text(max_size=30), st.data())
def test_characters_are_never_split_whatever_the_tokens(text: str, data: st.DataObject) -> None:
    stream = TextStream(Utf8Decoder(), (), frozenset())
    shown = [stream.push(byte).text for byte in text.encode("utf-8", "replace")]
    assert "".join(shown) + stream.finish() == text.encode("utf-8", "replace").decode()
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in shown)


def test_a_stop_across_token_borders_is_found_and_hidden() -> None:
    stream = TextStream(Utf8Decoder(), ("STOP",), frozenset())
    tokens = [ord("x"), VOCABULARY.index(b"ST"), VOCABULARY.index(b"OP"), ord("y")]
    pieces = [stream.push(token) for token in tokens]
    assert [piece.text for piece in pieces] == ["x", "", "", ""]
    assert [piece.stopped for piece in pieces] == [False, False, True, True]
    assert stream.finish() == ""


def test_a_stop_inside_one_token_cuts_that_tokens_text() -> None:
    stream = TextStream(Utf8Decoder(), ("TO",), frozenset())
    piece = stream.push(VOCABULARY.index(b"STOP"))
    assert piece.text == "S"
    assert piece.stopped


def test_text_held_back_for_a_stop_that_does_not_come_is_released_at_the_end() -> None:
    stream = TextStream(Utf8Decoder(), ("STOP",), frozenset())
    assert stream.push(VOCABULARY.index(b"ST")).text == ""
    assert stream.finish() == "ST"


def test_the_end_of_sequence_has_no_text_unless_it_is_ignored() -> None:
    assert TextStream(Utf8Decoder(), (), frozenset({EOS})).push(EOS).text == ""
    assert TextStream(Utf8Decoder(), (), frozenset()).push(EOS).text == "</s>"
