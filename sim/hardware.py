"""From a scenario's hardware to a cost model, and to the speed a worker starts with."""

from ..proto.batch import Batch, Chunk, Draw
from ..proto.ids import BlockId, RequestId
from ..proto.requests import SamplingParams
from ..proto.views import Speed
from .cost import Affine, CostModel, Hardware, Roofline
from .scenario import AffineSpec, ModelSpec, RooflineSpec

PROBE_TOKENS = 512


def cost_model(spec: RooflineSpec | AffineSpec, model: ModelSpec) -> CostModel:
    """The cost model of one kind of device."""
    if isinstance(spec, AffineSpec):
        return Affine(
            iteration_base_ns=round(spec.iteration_us * 1e3), token_ns=round(spec.token_us * 1e3)
        )
    hardware = Hardware(
        flops_per_s=spec.tflops_per_s * 1e12,
        bytes_per_s=spec.gbytes_per_s * 1e9,
        flops_efficiency=spec.flops_efficiency,
        bytes_efficiency=spec.bytes_efficiency,
        overhead_ns=round(spec.overhead_us * 1e3),
    )
    return Roofline(model.shape(), hardware)


def first_speed(cost: CostModel) -> Speed:
    """A worker's speed before it has measured anything: one decode, and one long prefill."""
    one, many = cost.iteration_ns(_probe(1)), cost.iteration_ns(_probe(PROBE_TOKENS))
    return Speed(iteration_ns=float(one), token_ns=max(0.0, (many - one) / (PROBE_TOKENS - 1)))


def _probe(tokens: int) -> Batch:
    chunk = Chunk(
        request_id=RequestId("probe"),
        token_ids=(0,) * tokens,
        start=0,
        block_table=(BlockId(0),),
        draw=Draw(params=SamplingParams(), position=tokens),
    )
    return Batch(iteration=0, chunks=(chunk,))
