"""A decoder on GPUs of the catalogue: the roofline, part by part.

Per GPU and iteration, one after the other (so a mixed iteration costs more than
either half):

    linear      each layer's matrices: arithmetic or reading the weights, the slower
    attention   prefill pairs at the arithmetic limit (or reading KV, if slower)
    kv          decodes read their KV
    head        rows that draw, against the vocabulary
    links       all-reduce per layer, all-to-all per expert layer, less what is hidden
    host        per iteration, per request
"""

from functools import lru_cache
from typing import NamedTuple

from ...proto.batch import Batch
from ..clock import NS_PER_S
from .catalogue import Device
from .decoder import Decoder
from .efficiency import Efficiency
from .parallel import Links, Parallel
from .work import Work, work_of

ROWS_KEPT = 4096  # shapes of iterations; most are decodes of a few hundred different sizes


class Parts(NamedTuple):
    """Seconds of one iteration, by what takes them."""

    linear_s: float
    attention_s: float
    kv_s: float
    head_s: float
    links_s: float
    host_s: float

    @property
    def total_s(self) -> float:
        return sum(self)


class DeviceRoofline:
    """Iteration times of one replica: `parallel.tp` GPUs of one kind."""

    def __init__(
        self, decoder: Decoder, device: Device, parallel: Parallel, efficiency: Efficiency
    ) -> None:
        self._decoder, self._parallel, self._efficiency = decoder, parallel, efficiency
        narrow = decoder.linear_bytes <= 1 and device.fp8_tflops is not None
        peak = device.fp8_tflops if narrow and device.fp8_tflops else device.bf16_tflops
        bf16 = device.bf16_tflops.value * 1e12
        memory = device.memory_gbytes_per_s.value * 1e9
        self._gemm_flops = peak.value * 1e12 * efficiency.gemm
        self._head_flops = bf16 * efficiency.gemm
        self._attention_flops = bf16 * efficiency.attention
        self._weight_bytes_per_s = memory * efficiency.weights
        self._kv_bytes_per_s = memory * efficiency.kv
        self._links = Links(
            bytes_per_s=device.link_gbytes_per_s.value * 1e9 * efficiency.link,
            latency_s=device.link_latency_us.value / 1e6,
        )
        self._by_rows = lru_cache(ROWS_KEPT)(self._rows_s)
        self._kv_token_bytes = decoder.kv_token_bytes / min(parallel.tp, decoder.kv_heads)

    def iteration_ns(self, batch: Batch) -> int:
        return self.work_ns(work_of(batch))

    def work_ns(self, work: Work) -> int:
        """Nanoseconds of one iteration of that work."""
        return round(self.parts(work).total_s * NS_PER_S)

    def parts(self, work: Work) -> Parts:
        """The same, by part."""
        requests = work.decodes + len(work.prefills)
        linear_s, head_s, links_s, host_s = self._by_rows(work.tokens, work.draws, requests)
        attention_s = self._attention_s(work) if work.prefills else 0.0
        return Parts(linear_s, attention_s, self._kv_s(work), head_s, links_s, host_s)

    def _rows_s(self, tokens: int, draws: int, requests: int) -> tuple[float, ...]:
        """Linear, head, links, host: what does not look at the context."""
        efficiency, decoder = self._efficiency, self._decoder
        return (
            self._linear_s(tokens) + decoder.layers * efficiency.layer_us / 1e6,
            self._matrix_s(decoder.head_weights, draws, head=True),
            self._links_s(tokens) * (1 - efficiency.overlap),
            (efficiency.host_us + requests * efficiency.request_us) / 1e6,
        )

    def describe(self) -> tuple[str, ...]:
        given, parallel = self._efficiency, self._parallel
        shares = (
            f"GEMM {given.gemm:g}, attention {given.attention:g}, weights {given.weights:g}, "
            f"KV {given.kv:g}, link {given.link:g} ({given.overlap:.0%} hidden)"
        )
        times = (
            f"host {given.host_us:g} us + {given.request_us:g} us per request, "
            f"{given.layer_us:g} us per layer, decodes beside a prefill x {given.mixed:g}"
        )
        replica = f"device roofline: TP {parallel.tp}, EP {parallel.ep}"
        return (f"{replica}; of the peaks: {shares}", f"{replica}; beside them: {times}")

    def _linear_s(self, tokens: int) -> float:
        decoder = self._decoder
        dense_layers = decoder.layers - decoder.moe_layers
        every = decoder.layers * self._matrix_s(decoder.attention_weights, tokens)
        dense = dense_layers * self._matrix_s(decoder.mlp_weights, tokens)
        return every + dense + decoder.moe_layers * self._experts_s(tokens)

    def _experts_s(self, tokens: int) -> float:
        """One layer's experts: the busiest group's arithmetic, or the weights it has to read."""
        decoder, parallel = self._decoder, self._parallel
        if not decoder.experts or not tokens:
            return 0.0
        uneven = self._efficiency.imbalance if parallel.ep > 1 else 1.0
        rows = tokens * decoder.experts_per_token * uneven
        flops = 2 * rows * decoder.expert_weights / parallel.tp
        read = decoder.active_experts(tokens) * decoder.expert_weights * decoder.linear_bytes
        busy_s = flops / self._gemm_flops
        read_s = read / parallel.tp / self._weight_bytes_per_s
        return max(busy_s, read_s) + self._matrix_s(decoder.routed_weights, tokens)

    def _matrix_s(self, weights: int, rows: int, *, head: bool = False) -> float:
        if not rows:
            return 0.0
        size = self._decoder.other_bytes if head else self._decoder.linear_bytes
        flops = self._head_flops if head else self._gemm_flops
        share = weights / self._parallel.tp
        return max(2 * rows * share / flops, share * size / self._weight_bytes_per_s)

    def _attention_s(self, work: Work) -> float:
        decoder = self._decoder
        pair_flops = 4 * decoder.heads * decoder.head_dim * decoder.layers / self._parallel.tp
        keys = sum(prefill.tokens + prefill.context for prefill in work.prefills)
        busy_s = work.pairs * pair_flops / self._attention_flops
        return max(busy_s, keys * self._kv_token_bytes / self._kv_bytes_per_s)

    def _kv_s(self, work: Work) -> float:
        beside = self._efficiency.mixed if work.prefills else 1.0
        return work.decode_keys * self._kv_token_bytes / self._kv_bytes_per_s * beside

    def _links_s(self, tokens: int) -> float:
        decoder, parallel = self._decoder, self._parallel
        row_bytes = tokens * decoder.hidden * decoder.other_bytes
        reduces = 2 * decoder.layers
        exchange_s = 0.0
        if parallel.ep > 1 and decoder.moe_layers:
            reduces -= decoder.moe_layers  # there the experts' sums come back by all-to-all
            sent = row_bytes * decoder.experts_per_token / parallel.tp
            exchange_s = 2 * decoder.moe_layers * self._links.all_to_all_s(parallel.ep, sent)
        return reduces * self._links.all_reduce_s(parallel.tp, row_bytes) + exchange_s
