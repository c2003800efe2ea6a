"""Tokenizers built from a GGUF encode as the originals do; streams never split a character."""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from splitweave.workers.models.errors import ModelFileError, UnsupportedModel
from splitweave.workers.models.gguf_file import read_gguf
from splitweave.workers.models.gguf_tokenizer import PRE_TOKENIZERS, merges_from_scores
from splitweave.workers.models.stream_decoder import byte_level
from splitweave.workers.models.tokenizer import Tokenizer, load_tokenizer

# Ids of the original tokenizer (HuggingFaceTB/SmolLM2-135M-Instruct).
ORIGINAL_IDS = {
    "Hello, we can use": [19556, 28, 392, 416, 722],
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
    "\n": [198],
}
TEXTS = [
    "日本語🙂 naïve\tcafé ١٢٣  x\r\n\r\n  y",
    "don't we'LL 12345 a\u0301 ﬁ",
    "",
    " ",
    "\x00\x7f\u200b",
    "👩‍👩‍👧‍👦 flags 🇩🇪",
    "<|im_start|>user\nhi<|im_end|>",
]
# Byte-level BPE without merges: every byte is a token.
BYTES = [chr(byte) for byte in range(33, 127)] + [
    chr(char) for char in range(161, 324) if char != 173
]


@pytest.fixture(scope="module")
def smollm_tokenizer(smollm_path: Path) -> Tokenizer:
    return load_tokenizer(smollm_path)


@pytest.fixture(scope="module")
def original(smollm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    """SmolLM2's tokenizer.json as published, rebuilt: Digits, then ByteLevel's own pattern."""
    file = read_gguf(smollm_path)
    tokens = file.strings("tokenizer.ggml.tokens")
    types = file.numbers("tokenizer.ggml.token_type")
    assert types is not None
    special = [index for index, kind in enumerate(types.tolist()) if kind == 3]
    described = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [
            {"id": index, "content": tokens[index], "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True} for index in special
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: index for index, token in enumerate(tokens)},
                  "merges": file.strings("tokenizer.ggml.merges")},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("original") / "tokenizer.json"
    path.write_text(json.dumps(described))
    (path.parent / "config.json").write_text('{"eos_token_id": 2, "bos_token_id": 1}')
    return tokenizers.Tokenizer.from_file(str(path))


@pytest.mark.parametrize("text", ORIGINAL_IDS)
def test_smollm_ids_are_the_published_ones(text: str, smollm_tokenizer: Tokenizer) -> None:
    assert smollm_tokenizer.encode(text) == ORIGINAL_IDS[text]


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.sampled_from(TEXTS))
def test_the_built_tokenizer_encodes_and_decodes_as_the_original(
    text: str, smollm_tokenizer: Tokenizer, original: tokenizers.Tokenizer
) -> None:
    ids = original.encode(text).ids
    assert smollm_tokenizer.encode(text) == ids
    assert smollm_tokenizer.decode(ids) == original.decode(ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_streamed_text_round_trips(
    text: str, smollm_tokenizer: Tokenizer, original: tokenizers.Tokenizer
) -> None:
    # SmolLM2's vocabulary lacks some single bytes: such text loses them when encoded.
    spelled = "".join(original.id_to_token(i) for i in smollm_tokenizer.encode(text))
    assume(byte_level(spelled) == text.encode() and "<|" not in text)
    decoder = smollm_tokenizer.decoder()
    pieces = [decoder.push(token_id) for token_id in smollm_tokenizer.encode(text)]
    assert decoder.flush() == ""
    assert "".join(pieces) == text


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=30))
def test_any_tokens_stream_as_they_decode_at_once(
    ids: list[int], smollm_tokenizer: Tokenizer
) -> None:
    decoder = smollm_tokenizer.decoder()
    text = "".join([decoder.push(token_id) for token_id in ids]) + decoder.flush()
    assert text == smollm_tokenizer.decode(ids)


def test_half_a_character_waits_and_a_lost_one_is_replaced(smollm_tokenizer: Tokenizer) -> None:
    ids = smollm_tokenizer.encode("𓀀")
    assert len(ids) > 1
    decoder = smollm_tokenizer.decoder()
    assert [decoder.push(token_id) for token_id in ids] == [""] * (len(ids) - 1) + ["𓀀"]
    decoder.push(ids[0])
    assert decoder.flush() == "\ufffd"


def test_a_folder_with_the_same_tokenizer_gives_the_same(
    smollm_tokenizer: Tokenizer, original: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    original.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"eos_token_id": [2, 0], "bos_token_id": 1}')
    folder = load_tokenizer(tmp_path)
    assert folder.eos_token_ids == (0, 2)
    for text in TEXTS:
        assert folder.encode(text) == smollm_tokenizer.encode(text)
        first, second = folder.decoder(), smollm_tokenizer.decoder()
        assert [first.push(i) for i in folder.encode(text)] == [
            second.push(i) for i in folder.encode(text)
        ]


@pytest.fixture
def write_vocab(tmp_path: Path) -> Callable[..., Path]:
    """A GGUF file with a vocabulary and no tensors."""

    def write(model: str, tokens: list[str], types: list[int], **extra: object) -> Path:
        path = tmp_path / "vocab.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model(model)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        if "pre" in extra:
            writer.add_tokenizer_pre(str(extra["pre"]))
        if "merges" in extra:
            writer.add_token_merges(extra["merges"])  # type: ignore[arg-type]
        if "scores" in extra:
            writer.add_token_scores(extra["scores"])  # type: ignore[arg-type]
        if "bos" in extra:
            writer.add_bos_token_id(extra["bos"])  # type: ignore[arg-type]
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return write


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_known_pre_tokenizer_loses_no_text(
    pre: str, text: str, write_vocab: Callable[..., Path]
) -> None:
    tokens = [*BYTES, "it"]
    path = write_vocab("gpt2", tokens, [1] * len(tokens), pre=pre, merges=["i t"])
    tokenizer = load_tokenizer(path)
    composed = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
    assert tokenizer.decode(tokenizer.encode(text)) == composed


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "it's 1234 a", ["it", "'s", "Ġ1234", "Ġa"]),
        ("smollm", "it's 1234 a", ["it", "'s", "Ġ", "1", "2", "3", "4", "Ġa"]),
        ("llama-bpe", "it'S 1234 a\n\n", ["it", "'S", "Ġ", "123", "4", "Ġa", "ĊĊ"]),
        ("qwen2", "it'S 1234 a\n\n", ["it", "'S", "Ġ", "1", "2", "3", "4", "Ġa", "ĊĊ"]),
        ("default", "x, 1234", ["x", ",", "Ġ", "123", "4"]),
    ],
)
def test_pre_tokenizers_cut_where_llama_cpp_cuts(pre: str, text: str, pieces: list[str]) -> None:
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in PRE_TOKENIZERS[pre]]
    byte_chars = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.Sequence([*splits, byte_chars]).pre_tokenize_str(text)
    assert [piece for piece, _ in cut] == pieces


def test_an_unknown_pre_tokenizer_is_refused_by_name(write_vocab: Callable[..., Path]) -> None:
    path = write_vocab("gpt2", ["a"], [1], pre="martian", merges=["a a"])
    with pytest.raises(UnsupportedModel, match=r"pre 'martian' is not supported; one of: default"):
        load_tokenizer(path)


def test_an_unknown_vocabulary_kind_is_refused_by_name(write_vocab: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedModel, match=r"model 'bert' is not supported; one of: gpt2"):
        load_tokenizer(write_vocab("bert", ["a"], [1]))


def test_merges_of_unknown_tokens_are_an_error_not_a_crash(
    write_vocab: Callable[..., Path],
) -> None:
    with pytest.raises(ModelFileError, match="merges"):
        load_tokenizer(write_vocab("gpt2", ["a"], [1], pre="gpt-2", merges=["a b"]))


def sentence_piece_vocab() -> tuple[list[str], list[int], list[float]]:
    words = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "▁he", "o▁"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    scores = [0.0] * 259 + [-float(index) for index in range(len(words))]
    return tokens, types, scores


def test_sentence_piece_vocabularies_merge_by_score_and_fall_back_to_bytes(
    write_vocab: Callable[..., Path],
) -> None:
    tokens, types, scores = sentence_piece_vocab()
    tokenizer = load_tokenizer(write_vocab("llama", tokens, types, scores=scores, bos=1))
    spelled = [tokens[index] for index in tokenizer.encode("hello é")]
    assert spelled == ["<s>", "▁hello", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("hello é")) == "hello é"
    decoder = tokenizer.decoder()
    pieces = [decoder.push(token_id) for token_id in tokenizer.encode("hello é")]
    assert pieces == ["", " hello", " ", "", "é"]  # a stream continues what came before


def test_merges_from_scores_prefer_better_scores() -> None:
    merges = merges_from_scores(["a", "b", "ab", "abb", "bb"], [0.0, 0.0, -2.0, -1.0, -3.0])
    assert merges == [("a", "bb"), ("ab", "b"), ("a", "b"), ("b", "b")]


def test_missing_and_broken_tokenizer_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: no such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_language_is_importable_without_torch_and_ray() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['ray'] = None; "
        "import splitweave.workers.models.chat, splitweave.workers.models.tokenizer, "
        "splitweave.workers.models.spec, splitweave.workers.models.hf_spec"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
