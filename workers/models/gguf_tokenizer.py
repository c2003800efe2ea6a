"""A `tokenizers` tokenizer from a GGUF file's vocabulary.

Two kinds exist: `gpt2`, byte-level BPE with merges and a named pre-tokenizer,
and `llama`, SentencePiece BPE with scores and byte fallback.
"""

from collections.abc import Callable

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from .errors import ModelFileError, UnsupportedModel
from .gguf_file import GgufFile
from .stream_decoder import SPACE, TokenBytes, byte_level, sentence_piece

# `tokenizers` raises Exception itself for every file it dislikes, nothing narrower.
LIBRARY_ERROR: type[Exception] = Exception

# Token types of tokenizer.ggml.token_type.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The patterns of tokenizer.ggml.pre, applied one after another; each match is a
# piece, and so is what lies between (llama.cpp, src/llama-vocab.cpp).
PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (_WORDS % "{1,3}",),
    "qwen2": (_WORDS % "",),
}
_COMPOSED = frozenset({"qwen2"})  # trained on NFC text
_WHOLE_WORDS = frozenset({"llama-bpe"})  # a word in the vocabulary needs no merges
_BEGINS = frozenset({"llama-bpe"})  # begin-of-sequence unless add_bos_token says otherwise


def build(file: GgufFile) -> tuple[tokenizers.Tokenizer, TokenBytes]:
    """Raises ModelFileError if parts are missing, UnsupportedModel naming what is not known."""
    kind = file.need("tokenizer.ggml.model", str)
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.model {kind!r} is not supported; one of: "
            + ", ".join(_BUILDERS)
        )
    return builder(file)


def _build_byte_level(file: GgufFile) -> tuple[tokenizers.Tokenizer, TokenBytes]:
    pre = file.get("tokenizer.ggml.pre", str) or "default"
    patterns = PRE_TOKENIZERS.get(pre)
    if patterns is None:
        raise UnsupportedModel(
            f"{file.path}: tokenizer.ggml.pre {pre!r} is not supported; one of: "
            + ", ".join(PRE_TOKENIZERS)
        )
    tokens = file.strings("tokenizer.ggml.tokens")
    merges = [_pair(file, merge) for merge in file.strings("tokenizer.ggml.merges")]
    encoder = tokenizers.Tokenizer(
        _bpe(file, models.BPE, tokens, merges=merges, ignore_merges=pre in _WHOLE_WORDS)
    )
    if pre in _COMPOSED:
        encoder.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    byte_chars = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_chars])
    encoder.decoder = decoders.ByteLevel()
    special, literal = _add_tokens(file, encoder, tokens)
    _add_begin(file, encoder, tokens, by_default=pre in _BEGINS)
    return encoder, TokenBytes(encoder.id_to_token, byte_level, special, literal)


def _build_sentence_piece(file: GgufFile) -> tuple[tokenizers.Tokenizer, TokenBytes]:
    tokens = file.strings("tokenizer.ggml.tokens")
    scores = file.numbers("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(tokens):
        raise ModelFileError(file.path, "tokenizer.ggml.scores is missing or not one per token")
    unknown = file.get("tokenizer.ggml.unknown_token_id", int) or 0
    encoder = tokenizers.Tokenizer(
        _bpe(
            file, models.BPE, tokens, merges=merges_from_scores(tokens, scores.tolist()),
            unk_token=tokens[unknown], fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    prefix = file.get("tokenizer.ggml.add_space_prefix", bool)
    spaces = [normalizers.Replace(" ", SPACE)]
    strip = [decoders.Strip(" ", 1, 0)]
    if prefix is False:
        encoder.normalizer = normalizers.Sequence(spaces)
        strip = []
    else:
        encoder.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), *spaces])
    encoder.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    special, literal = _add_tokens(file, encoder, tokens)
    _add_begin(file, encoder, tokens, by_default=True)
    return encoder, TokenBytes(encoder.id_to_token, sentence_piece, special, literal)


_BUILDERS: dict[str, Callable[[GgufFile], tuple[tokenizers.Tokenizer, TokenBytes]]] = {
    "gpt2": _build_byte_level,
    "llama": _build_sentence_piece,
}


def merges_from_scores(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Merges that SentencePiece's scores imply: better scores first.

    Every way to join two tokens into a third is a merge, as in Hugging Face's
    converter; among equals the earlier left, then right, token goes first.
    """
    ids = {token: index for index, token in enumerate(tokens)}
    found = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                found.append((-score, ids[token], left, right))
    found.sort()
    return [(tokens[left], tokens[right]) for _, _, left, right in found]


def _bpe(
    file: GgufFile, bpe: Callable[..., models.BPE], tokens: list[str], **options: object
) -> models.BPE:
    vocab = {token: index for index, token in enumerate(tokens)}
    try:
        return bpe(vocab=vocab, **options)
    except LIBRARY_ERROR as error:  # a merge of tokens that are not in the vocabulary
        raise ModelFileError(file.path, f"tokenizer.ggml.merges: {error}") from error


def _pair(file: GgufFile, merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not space:
        raise ModelFileError(file.path, f"tokenizer.ggml.merges: {merge!r} is not a pair")
    return left, right


def _add_tokens(
    file: GgufFile, encoder: tokenizers.Tokenizer, tokens: list[str]
) -> tuple[frozenset[int], dict[int, str]]:
    """Control tokens are special: matched in text, absent from output. User-defined
    ones are matched whole and stay.
    """
    types = file.numbers("tokenizer.ggml.token_type")
    kinds = types.tolist() if types is not None else [1] * len(tokens)
    special = [index for index, kind in enumerate(kinds) if kind in (_UNKNOWN, _CONTROL)]
    literal = {index: tokens[index] for index, kind in enumerate(kinds) if kind == _USER_DEFINED}
    encoder.add_special_tokens(
        [AddedToken(tokens[index], special=True, normalized=False) for index in special]
    )
    encoder.add_tokens([AddedToken(text, normalized=False) for text in literal.values()])
    return frozenset(special), literal


def _add_begin(
    file: GgufFile, encoder: tokenizers.Tokenizer, tokens: list[str], *, by_default: bool
) -> None:
    """Put the begin-of-sequence token before raw text, if the model was trained so."""
    wanted = file.get("tokenizer.ggml.add_bos_token", bool)
    bos = file.get("tokenizer.ggml.bos_token_id", int)
    if bos is None or not (by_default if wanted is None else wanted):
        return
    encoder.post_processor = processors.TemplateProcessing(
        single=f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)]
    )
