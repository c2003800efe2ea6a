"""What is reached of the peaks, as factors: the part of a roofline that must be measured.

They belong to an engine and its version more than to a device; `benchmarks/fidelity.py`
fits them to measured points and says how well they hold on others.
"""

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Efficiency:
    """Shares of a peak in (0, 1]; the rest is time.

    gemm, attention: of the FLOP/s, for matrix products and for prefill attention.
    weights, kv: of the memory's bandwidth, for reading weights and KV.
    link: of the link's bandwidth. overlap: share of the communication that is hidden.
    layer_us: what every layer takes beside all that (norms, launches).
    mixed: factor on the decodes' attention beside a prefill, >= 1.
    host_us: host time per iteration that the GPU waits for; request_us: the same for
    each request of the batch (sampling, detokenizing).
    imbalance: the busiest expert group's load by the mean one's, >= 1.
    """

    gemm: float = Field(default=0.7, gt=0, le=1)
    attention: float = Field(default=0.4, gt=0, le=1)
    weights: float = Field(default=0.8, gt=0, le=1)
    kv: float = Field(default=0.7, gt=0, le=1)
    link: float = Field(default=0.7, gt=0, le=1)
    overlap: float = Field(default=0.0, ge=0, lt=1)
    layer_us: float = Field(default=10.0, ge=0)
    mixed: float = Field(default=1.2, ge=1)
    host_us: float = Field(default=1000.0, ge=0)
    request_us: float = Field(default=0.0, ge=0)
    imbalance: float = Field(default=1.2, ge=1)
