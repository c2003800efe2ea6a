"""From a scenario's `[hardware.NAME]` to a cost model, a power model, and a block count."""

from pathlib import Path

from ...proto.batch import Batch, Chunk, Draw
from ...proto.ids import BlockId, RequestId
from ...proto.requests import SamplingParams
from ...proto.views import Speed
from .aic import tabulated
from .catalogue import CATALOGUE, Device, load_catalogue
from .device import DeviceRoofline
from .errors import CostError
from .grid import Beyond
from .layers import HostTime, LayerProfile
from .memory import Blocks, derive_blocks
from .parallel import Parallel
from .plain import Affine, Hardware, Roofline
from .power import Capped, Power, power_of
from .protocol import CostModel
from .slowdown import Slowdown, given_slowdown, read_slowdown
from .specs import AffineSpec, AicSpec, DeviceSpec, LayersSpec, ModelSpec, RooflineSpec, TableSpec
from .table import MeasuredTable

PROBE_TOKENS = 512
Spec = RooflineSpec | AffineSpec | DeviceSpec | TableSpec | LayersSpec | AicSpec


def cost_model(spec: Spec, model: ModelSpec) -> CostModel:
    """The cost model of one kind of worker. Raises ConfigError."""
    cost = _uncapped(spec, model)
    power = power_model(spec)
    return Capped(cost, power) if power is not None and power.cap_w is not None else cost


def power_model(spec: Spec) -> Power | None:
    """What such a worker draws; None where no device of the catalogue is named."""
    if isinstance(spec, RooflineSpec | AffineSpec):
        return None
    device = _device(spec)
    if device is None:
        if spec.power_cap_w is not None:
            raise CostError("power_cap_w needs a device of the catalogue (device = …)")
        return None
    return power_of(device, spec.tp, spec.power_cap_w)


def derived_blocks(spec: Spec, model: ModelSpec, block_tokens: int) -> Blocks | None:
    """KV blocks from the device's memory; None where no device is named. Raises CostError."""
    device = None if isinstance(spec, RooflineSpec | AffineSpec) else _device(spec)
    if device is None:
        return None
    assert not isinstance(spec, RooflineSpec | AffineSpec), "they name no device"
    ep = spec.ep if isinstance(spec, DeviceSpec | AicSpec) else 1
    return derive_blocks(model.decoder(), device, Parallel(tp=spec.tp, ep=ep), block_tokens)


def slowdown_of(spec: Spec) -> Slowdown | None:
    """What its iterations suffer from others of their node; None: nothing. Raises CostError."""
    if not isinstance(spec, TableSpec | AffineSpec | DeviceSpec):
        return None
    if spec.slowdown is not None:
        return given_slowdown(spec.slowdown)
    return read_slowdown(Path(spec.path)) if isinstance(spec, TableSpec) else None


def first_speed(cost: CostModel) -> Speed:
    """A worker's speed before it has measured anything: one decode, and one long prefill."""
    one, many = cost.iteration_ns(_probe(1)), cost.iteration_ns(_probe(PROBE_TOKENS))
    return Speed(iteration_ns=float(one), token_ns=max(0.0, (many - one) / (PROBE_TOKENS - 1)))


def _uncapped(spec: Spec, model: ModelSpec) -> CostModel:
    match spec:
        case AffineSpec():
            base_ns, token_ns = round(spec.iteration_us * 1e3), round(spec.token_us * 1e3)
            return Affine(iteration_base_ns=base_ns, token_ns=token_ns)
        case RooflineSpec():
            return _roofline(spec, model)
        case DeviceSpec():
            device = load_catalogue(_catalogue(spec)).device(spec.device)
            parallel = Parallel(tp=spec.tp, ep=spec.ep)
            return DeviceRoofline(model.decoder(), device, parallel, spec.efficiency)
        case TableSpec():
            return MeasuredTable(Path(spec.path), Beyond(spec.beyond), spec.overhead_us)
        case AicSpec():
            return MeasuredTable(tabulated(spec), Beyond(spec.beyond), spec.overhead_us)
        case LayersSpec():
            host = HostTime(iteration_us=spec.overhead_us, request_us=spec.request_us)
            skew = "skew.csv" if spec.skew else None
            return LayerProfile(Path(spec.path), model.layers, host, Beyond(spec.beyond), skew)


def _roofline(spec: RooflineSpec, model: ModelSpec) -> Roofline:
    if model.experts:
        raise CostError('a roofline of two peaks knows no experts: use kind = "device"')
    hardware = Hardware(
        flops_per_s=spec.tflops_per_s * 1e12,
        bytes_per_s=spec.gbytes_per_s * 1e9,
        flops_efficiency=spec.flops_efficiency,
        bytes_efficiency=spec.bytes_efficiency,
        overhead_ns=round(spec.overhead_us * 1e3),
    )
    return Roofline(model.shape(), hardware)


def _device(spec: DeviceSpec | TableSpec | LayersSpec | AicSpec) -> Device | None:
    if spec.device is None:
        return None
    return load_catalogue(_catalogue(spec)).device(spec.device)


def _catalogue(spec: DeviceSpec | TableSpec | LayersSpec | AicSpec) -> Path:
    return CATALOGUE if spec.catalogue is None else Path(spec.catalogue)


def _probe(tokens: int) -> Batch:
    chunk = Chunk(
        request_id=RequestId("probe"),
        token_ids=(0,) * tokens,
        start=0,
        block_table=(BlockId(0),),
        draw=Draw(params=SamplingParams(), position=tokens),
    )
    return Batch(iteration=0, chunks=(chunk,))
