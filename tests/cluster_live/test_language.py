"""The gateway's words are the model's: SmolLM2's real tokenizer, template and limits."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.cluster.core.limits import GatewayLimits
from splitweave.cluster.live.front.seams import Served
from splitweave.cluster.live.front.text import TextStream
from splitweave.cluster.live.gateway_setup import GatewaySetup
from splitweave.cluster.live.language import ModelLanguage, served_model
from splitweave.cluster.live.model_path import demo_model
from splitweave.proto.ids import GatewayId
from splitweave.workers.models.chat import ChatTemplate
from splitweave.workers.models.tokenizer import load_tokenizer

SETUP = GatewaySetup(
    namespace="n", gateway_id=GatewayId("g7"), limits=GatewayLimits(), model_path=str(demo_model()),
    model_name="smol", context_tokens_max=0, block_tokens=32, host="h", port=1, record="",
)  # fmt: skip
IM_START, IM_END = 1, 2
CHAT = [("system", "Be kind."), ("user", "Grüß dich!\n\nWie geht's?")]
NEW_YEARS_EVE = 1_798_761_599  # 2026-12-31 23:59:59 UTC


@pytest.fixture(scope="module")
def served() -> Served:
    return served_model(SETUP)


def text_of(served: Served, token_ids: Sequence[int]) -> str:
    decoder = served.language.decoder()
    return "".join(decoder.push(token_id) for token_id in token_ids) + decoder.flush()


def test_the_models_limits_and_the_setups_names_are_served(served: Served) -> None:
    assert (served.gateway_id, served.name, served.block_tokens) == ("g7", "smol", 32)
    assert (served.vocab_size, served.context_tokens_max) == (49_152, 8_192)
    assert served.eos_token_ids == {IM_END}


@pytest.mark.parametrize(("asked", "limit"), [(0, 8_192), (100, 100), (10**6, 8_192)])
def test_the_context_is_the_configs_but_never_longer_than_the_models(
    asked: int, limit: int
) -> None:
    assert served_model(replace(SETUP, context_tokens_max=asked)).context_tokens_max == limit


def test_raw_text_gets_no_template_and_no_special_tokens(served: Served) -> None:
    ids = served.language.encode("The capital of France is")
    assert list(ids) == [504, 3575, 282, 4649, 314]


def test_a_chat_is_rendered_as_the_model_was_trained(served: Served) -> None:
    ids = list(served.language.encode_chat(CHAT, 0))
    assert ids.count(IM_START) == 3
    assert ids.count(IM_END) == 2
    assert ids[0] == IM_START
    shown = text_of(served, [token_id for token_id in ids if token_id > IM_END])
    assert shown == "system\nBe kind.\nuser\nGrüß dich!\n\nWie geht's?\nassistant\n"


def test_a_chat_without_a_system_turn_gets_the_templates_own(served: Served) -> None:
    ids = served.language.encode_chat([("user", "hi")], 0)
    assert "named SmolLM, trained by Hugging Face" in text_of(served, ids)


def test_a_longer_chat_begins_with_the_tokens_of_the_shorter(served: Served) -> None:
    """So a follow-up turn finds its prefix cached."""
    encode = served.language.encode_chat
    opening = list(encode(CHAT, 0))
    followed = list(encode([*CHAT, ("assistant", "Gut."), ("user", "Schön.")], 0))
    assert followed[: len(opening)] == opening


# The vocabulary lacks tokens for some control characters and for planes 4 to 16.
@given(st.text(st.characters(max_codepoint=0x3FFFF, categories=["L", "N", "P", "Zs"])))
def test_any_text_comes_back_through_the_models_tokens(served: Served, text: str) -> None:
    assert text_of(served, served.language.encode(text)) == text


def test_no_piece_of_a_stream_ends_within_a_character(served: Served) -> None:
    text = "日本語🙂 naïve"
    stream = TextStream(served.language.decoder(), (), served.eos_token_ids)
    pieces = [stream.push(token_id).text for token_id in served.language.encode(text)]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces  # a token that holds part of a character only


def test_a_template_sees_the_time_it_is_given_in_utc() -> None:
    tokenizer = load_tokenizer(demo_model())
    template = ChatTemplate("{{ strftime_now('%d %b %Y %H:%M:%S') }}{{ messages[0].content }}")
    language = ModelLanguage(tokenizer, template)

    def rendered(at_s: int) -> str:
        decoder = language.decoder()
        ids = language.encode_chat([("user", "!")], at_s)
        return "".join(map(decoder.push, ids)) + decoder.flush()

    assert rendered(NEW_YEARS_EVE) == "31 Dec 2026 23:59:59!"
    assert rendered(NEW_YEARS_EVE + 1) == "01 Jan 2027 00:00:00!"


def test_a_model_without_a_template_refuses_chats_for_a_person_to_read() -> None:
    language = ModelLanguage(load_tokenizer(demo_model()), ChatTemplate(None))
    with pytest.raises(ValueError, match="no chat template: send text or token ids"):
        language.encode_chat(CHAT, 0)


def test_threads_share_one_language(served: Served) -> None:
    texts = [f"{number} green bottles, " * (number % 7 + 1) for number in range(64)]
    alone = [list(served.language.encode(text)) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        together = [list(ids) for ids in threads.map(served.language.encode, texts)]
    assert together == alone
