"""The least that a worker's iterations can cost, as straight lines under the cost model.

An iteration of `rows` rows (prefill tokens and decodes) takes at least, for every
share l in [0, 1]:

    iteration_s + prefill tokens x token_s + decodes x decode_s + draws x draw_s
                + query-key pairs x pair_s + KV tokens read x key_s

Matrix products take max(reading the weights, arithmetic): l = 0 keeps the first, l = 1
the second, between them lies a mixture, which is never above the maximum. Communication
is concave in the rows, so the chord from 1 to `rows_max` is below it. The lines add up
over requests, which the cost itself does not; that is what makes bounds of them.
"""

from dataclasses import dataclass

from ..costs.build import power_model
from ..costs.device import DeviceRoofline, Parts
from ..costs.specs import ModelSpec
from ..costs.work import Prefill, Work
from .budgets import Budgets
from .machines import WorkerType

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MANY = 1 << 20  # rows at which arithmetic is the limit on any device
LONG = 65536  # tokens of a prefill whose attention is arithmetic-bound on any device


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Seconds per iteration, more if a row is drawn, per prefill token, decode and row drawn."""

    iteration_s: float
    head_s: float
    token_s: float
    decode_s: float
    draw_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """All lines of one worker. `longer`: how a power cap stretches prefills; `kv_tokens`:
    what its blocks hold.
    """

    lines: tuple[Line, ...]
    pair_s: float
    key_s: float
    request_s: float
    longer: float
    kv_tokens: int


def floor_of(kind: WorkerType, model: ModelSpec, budgets: Budgets) -> Floor:
    """The lines under that worker's cost model. Raises CostError."""
    spec, rows_max = kind.spec, budgets.batched_tokens_max
    costs = kind.costs(model)
    long = Prefill(LONG, 0)
    attention_s = costs.parts(Work(prefills=(long,))).attention_s
    power = power_model(spec)
    prefilling = Work(prefills=(Prefill(1, 0),))
    return Floor(
        lines=tuple(_line(costs, rows_max, share) for share in SHARES),
        pair_s=attention_s / long.pairs,
        key_s=costs.parts(Work(decodes=1, decode_keys=MANY)).kv_s / MANY,
        request_s=_decodes(costs, 2).host_s - _decodes(costs, 1).host_s,
        longer=1.0 if power is None else power.lengthening(prefilling),
        kv_tokens=kind.blocks.count * budgets.block_tokens,
    )


def _line(costs: DeviceRoofline, rows_max: int, share: float) -> Line:
    one, many, more = (_decodes(costs, rows) for rows in (1, MANY, 2 * MANY))
    row_s = (more.linear_s - many.linear_s) / MANY
    draw_s = (more.head_s - many.head_s) / MANY
    beside_s = many.linear_s - MANY * row_s  # what the arithmetic limit leaves: layers' own time
    link_s = (_decodes(costs, rows_max).links_s - one.links_s) / max(1, rows_max - 1)
    request_s = _decodes(costs, 2).host_s - one.host_s
    read_s = (1 - share) * one.linear_s + share * beside_s
    fixed_s = (one.host_s - request_s) + max(0.0, one.links_s - link_s) + read_s
    return Line(
        iteration_s=fixed_s,
        head_s=(1 - share) * one.head_s,
        token_s=share * row_s + link_s,
        decode_s=share * row_s + link_s + request_s,
        draw_s=share * draw_s,
    )


def _decodes(costs: DeviceRoofline, rows: int) -> Parts:
    return costs.parts(Work(decodes=rows, draws=rows))
