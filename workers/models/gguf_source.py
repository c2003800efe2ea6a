"""Tensors of a GGUF file, dequantized to float32 one at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from numpy.typing import NDArray
from torch import Tensor

from .errors import ModelFileError, UnsupportedModel
from .gguf_file import GgufTensor, read_gguf
from .gguf_spec import ROPE_FREQS, spec_of_gguf
from .spec import Family, ModelSpec

# Hugging Face's name of a layer's tensor -> GGUF's. Suffixes .weight and .bias stay.
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "rope_freqs": ROPE_FREQS,
}


class GgufSource:
    """Tensors by Hugging Face name; see `tensor_source.TensorSource`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = read_gguf(path)
        self.spec: ModelSpec = spec_of_gguf(self._file)
        for entry in self._file.tensors.values():
            _check_extent(path, entry, len(self._file.data))

    def files(self) -> Iterator[Path]:
        yield self.path

    def find(self, name: str) -> Tensor | None:
        entry = self._file.tensors.get(gguf_name(name))
        if entry is None:
            return None
        values = self._dequantize(entry)
        if self.spec.family is Family.LLAMA and ".q_proj." in name:
            values = unpermute(values, self.spec.heads)
        elif self.spec.family is Family.LLAMA and ".k_proj." in name:
            values = unpermute(values, self.spec.kv_heads)
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def _dequantize(self, entry: GgufTensor) -> NDArray[np.float32]:
        kind = GGMLQuantizationType(entry.type_id)
        stored = np.frombuffer(self._file.data, np.uint8, _stored_bytes(entry), entry.offset)
        try:
            values = dequantize(_typed(stored, kind, entry.shape), kind)
        except NotImplementedError:
            raise UnsupportedModel(
                f"{self.path}: tensor {entry.name} is of type {kind.name}, which the gguf "
                "package cannot dequantize"
            ) from None
        return values.reshape(entry.shape).copy()


def gguf_name(name: str) -> str:
    """GGUF's name for a Hugging Face tensor name."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    module, _, suffix = rest.rpartition(".")
    return f"blk.{layer}.{_IN_LAYER[module]}.{suffix}"


def unpermute(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of q or k from llama.cpp's interleaved rotary pairs to split halves.

    llama.cpp's converter stores row 2i of a head as i, and 2i + 1 as i + D/2
    (convert_hf_to_gguf.py, LlamaModel.permute). Works on weights and biases.
    """
    rows, rest = values.shape[0], values.shape[1:]
    pairs = values.reshape(heads, rows // heads // 2, 2, *rest)
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _stored_bytes(entry: GgufTensor) -> int:
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(entry.type_id)]
    count = int(np.prod(entry.shape, dtype=np.int64))
    return count // block * size


def _typed(
    stored: NDArray[np.uint8], kind: GGMLQuantizationType, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    """As the gguf package wants it: floats by type, blocks as rows of bytes."""
    match kind:
        case GGMLQuantizationType.F32:
            return stored.view(np.float32)
        case GGMLQuantizationType.F16:
            return stored.view(np.float16)
        case _:
            rows = int(np.prod(shape[:-1], dtype=np.int64))
            return stored.reshape(rows, -1)


def _check_extent(path: Path, entry: GgufTensor, file_bytes: int) -> None:
    try:
        block, _ = GGML_QUANT_SIZES[GGMLQuantizationType(entry.type_id)]
    except (ValueError, KeyError):
        raise UnsupportedModel(
            f"{path}: tensor {entry.name} is of unknown type {entry.type_id}"
        ) from None
    if not entry.shape or entry.shape[-1] % block:
        raise ModelFileError(
            path, f"corrupt: tensor {entry.name} {entry.shape} is not in blocks of {block}"
        )
    end = entry.offset + _stored_bytes(entry)
    if end > file_bytes:
        raise ModelFileError(
            path, f"truncated: tensor {entry.name} ends at byte {end}, the file at {file_bytes}"
        )
