"""How many KV blocks a worker has: given, or derived from memory, and then said so.

The block count decides more than kernel times near saturation: with 31 % too many, a
simulated TTFT came out 21 % too good. So a count that an engine has printed is
always better than this one.
"""

from dataclasses import dataclass

from .catalogue import Device
from .decoder import Decoder
from .errors import CostError
from .parallel import Parallel

UTILISATION = 0.9  # of the memory, as engines take it by default
ACTIVATION_BYTES = 2e9  # per GPU: activations of the largest batch, graphs, libraries; estimate


@dataclass(frozen=True, slots=True)
class Blocks:
    """A worker's KV blocks, and where the number is from."""

    count: int
    origin: str


def derive_blocks(
    decoder: Decoder, device: Device, parallel: Parallel, block_tokens: int
) -> Blocks:
    """(memory x 0.9 - weights - activations) / bytes of a block, per GPU. Raises CostError."""
    memory = device.memory_gbytes.value * 1e9 * UTILISATION
    weights = decoder.weight_bytes / parallel.tp
    # With more GPUs than KV heads, heads are repeated.
    token_bytes = decoder.kv_token_bytes / min(parallel.tp, decoder.kv_heads)
    count = int((memory - weights - ACTIVATION_BYTES) / (token_bytes * block_tokens))
    origin = (
        f"derived, not measured: {device.memory_gbytes.value:g} GB x {UTILISATION:g} - weights "
        f"{weights / 1e9:.1f} GB - {ACTIVATION_BYTES / 1e9:g} GB per GPU, {parallel.tp} GPU(s)"
    )
    if count < 1:
        raise CostError(f"no memory is left for KV blocks ({origin})")
    return Blocks(count, origin)
