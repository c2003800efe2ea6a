"""Rotary frequencies and their tables, with scaling to longer contexts.

Sources: RoPE arXiv 2104.09864; yarn arXiv 2309.00071; llama3 as in Llama 3.1's
reference code. Arithmetic is float32 as in Hugging Face's, so that logits agree.
"""

import math

import torch
from torch import Tensor

from .spec import ModelSpec, RopeKind, RopeScaling


def rope_tables(
    spec: ModelSpec, positions: int, factors_D2: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [positions, head_dim / 2] float32, for positions 0, 1, …

    `factors_D2` divides the frequencies; the kind `factors` needs it.
    """
    frequencies_D2 = _frequencies(spec, factors_D2)
    angles_PD2 = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies_D2
    factor = _attention_factor(spec.rope_scaling)
    return (angles_PD2.cos() * factor).contiguous(), (angles_PD2.sin() * factor).contiguous()


def _attention_factor(scaling: RopeScaling) -> float:
    if scaling.kind is not RopeKind.YARN:
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0


def _frequencies(spec: ModelSpec, factors_D2: Tensor | None) -> Tensor:
    exponents = torch.arange(0, spec.head_dim, 2, dtype=torch.int64).float() / spec.head_dim
    plain_D2 = 1.0 / (spec.rope_theta**exponents)
    scaling = spec.rope_scaling
    match scaling.kind:
        case RopeKind.NONE:
            return plain_D2
        case RopeKind.LINEAR:
            return plain_D2 / scaling.factor
        case RopeKind.LLAMA3:
            return _llama3(plain_D2, scaling)
        case RopeKind.YARN:
            return _yarn(plain_D2, spec)
        case RopeKind.FACTORS:
            assert factors_D2 is not None, "rope_freqs were checked at load time"
            return plain_D2 / factors_D2


def _llama3(plain_D2: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are divided by factor, short ones kept, those between blended."""
    original = scaling.original_context_tokens
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelengths = 2 * math.pi / plain_D2
    scaled = torch.where(wavelengths > original / low, plain_D2 / scaling.factor, plain_D2)
    smooth = (original / wavelengths - low) / (high - low)
    blended = (1 - smooth) * scaled / scaling.factor + smooth * scaled
    between = (wavelengths >= original / high) & (wavelengths <= original / low)
    return torch.where(between, blended, scaled)


def _yarn(plain_D2: Tensor, spec: ModelSpec) -> Tensor:
    """Fast dimensions keep their frequency, slow ones are interpolated, with a ramp."""
    scaling = spec.rope_scaling
    low, high = _dimension(spec, scaling.beta_fast), _dimension(spec, scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.head_dim - 1)
    if low == high:
        high += 0.001
    ramp = (torch.arange(spec.head_dim // 2, dtype=torch.float32) - low) / (high - low)
    kept = 1 - ramp.clamp(0, 1)
    return plain_D2 / scaling.factor * (1 - kept) + plain_D2 * kept


def _dimension(spec: ModelSpec, rotations: float) -> float:
    """The dimension that turns `rotations` times within the original context."""
    original = spec.rope_scaling.original_context_tokens
    turns = original / (rotations * 2 * math.pi)
    return spec.head_dim * math.log(turns) / (2 * math.log(spec.rope_theta))
