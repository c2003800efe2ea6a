"""A model put together from layers that were measured one by one on one card.

A folder with three tables, times in us of one call (the layout of LLMServingSim's
profiles, MIT): `dense.csv` (layer, tokens, time_us), `per_sequence.csv` (layer,
sequences, time_us) for the head and the sampler, and `attention.csv`
(prefill_chunk, kv_prefill, n_decode, kv_decode, time_us), mixed batches included.
Attention was measured with decodes of one length. Where lengths differ it takes

    t(mean) + alpha(decodes) (t(longest) - t(mean))

`skew.csv` (regime, n, t_mean_us, t_max_us, t_skew_us), if there is one, gives an alpha for
each measured number of decodes n, alone (`pure`) or beside a prefill (`mixed`).

    iteration = embedding + layers x (2 norms + q k v + rotary + attention + o + MLP)
              + norm + head + sampler + host
"""

from dataclasses import dataclass
from pathlib import Path

from ...proto.batch import Batch
from .errors import CostError
from .grid import Beyond, Edge, Grid, Point
from .rows import read_rows
from .work import Prefill, Work, work_of

# How often each measured call occurs per layer, and once per iteration.
PER_LAYER = {
    "layernorm": 2, "qkv_proj": 1, "rotary_emb": 1, "o_proj": 1, "gate_up_proj": 1, "act_fn": 1,
    "down_proj": 1,
}  # fmt: skip
ONCE = ("embedding", "final_layernorm")
PER_SEQUENCE = ("lm_head", "sampler")
ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTime:
    """What the host adds to an iteration, and for each request in it."""

    iteration_us: float
    request_us: float = 0.0


class LayerProfile:
    """Iteration times of `layers` like layers. `skew`: the file of that, None to do without."""

    def __init__(
        self,
        folder: Path,
        layers: int,
        host: HostTime,
        beyond: Beyond = Beyond.EXTEND,
        skew: str | None = "skew.csv",
    ) -> None:
        self._folder, self._layers, self._host = folder, layers, host
        dense = _named(folder / "dense.csv", "tokens", (*PER_LAYER, *ONCE))
        heads = _named(folder / "per_sequence.csv", "sequences", PER_SEQUENCE)
        attention = read_rows(folder / "attention.csv", (*ATTENTION, "time_us"))
        points = {row[:4]: row[4] for row in attention.numbers}
        self._edges = {
            name: Edge(f"{folder.name}: {name}", beyond)
            for name in ("dense", "head", "skew", *MIXES)
        }
        once = _summed(dense, dict.fromkeys(ONCE, 1))
        measured = {} if skew is None else _alphas(folder / skew)
        self._alphas = {
            name: self._grid(("n_decode",), measured[regime], "skew")
            for name, regime in REGIMES.items()
            if regime in measured
        }
        self._layer = self._grid(("tokens",), _summed(dense, PER_LAYER), "dense")
        self._once = self._grid(("tokens",), once, "dense")
        head = _summed(heads, dict.fromkeys(PER_SEQUENCE, 1))
        self._head = self._grid(("sequences",), head, "head")
        self._attention = {
            name: self._grid([ATTENTION[axis] for axis in axes], _part(points, axes), name)
            for name, axes in MIXES.items()
        }

    def iteration_ns(self, batch: Batch) -> int:
        return self.work_ns(work_of(batch))

    def work_ns(self, work: Work) -> int:
        """Nanoseconds of one iteration of that work."""
        layer_us = self._layer.at(work.tokens) + self._attention_us(work)
        head_us = self._head.at(work.draws) if work.draws else 0.0
        requests = work.decodes + len(work.prefills)
        host_us = self._host.iteration_us + self._host.request_us * requests
        total_us = self._layers * layer_us + self._once.at(work.tokens) + head_us + host_us
        return round(total_us * 1_000)

    def describe(self) -> tuple[str, ...]:
        host = f"host {self._host.iteration_us:g} us + {self._host.request_us:g} us per request"
        said = f"layer profile {self._folder}: {self._layers} layers, {host}"
        return (said, *(edge.describe() for edge in self._edges.values()))

    def _attention_us(self, work: Work) -> float:
        """The largest chunk runs beside the decodes, the others after it."""
        if not work.prefills:
            return self._decodes_us("decode", (), work) if work.decodes else 0.0
        first, *others = sorted(work.prefills, key=lambda p: (p.pairs, p.tokens), reverse=True)
        rest_us = sum(self._prefill_us(prefill) for prefill in others)
        if not work.decodes:
            return self._prefill_us(first) + rest_us
        return self._decodes_us("mixed", first, work) + rest_us

    def _decodes_us(self, name: str, beside: tuple[int, ...], work: Work) -> float:
        grid = self._attention[name]
        mean_us = grid.at(*beside, work.decodes, work.decode_context)
        if name not in self._alphas:
            return mean_us
        longest_us = grid.at(*beside, work.decodes, work.longest)
        return mean_us + self._alphas[name].at(work.decodes) * (longest_us - mean_us)

    def _prefill_us(self, prefill: Prefill) -> float:
        return self._attention["prefill"].at(prefill.tokens, prefill.context)

    def _grid(
        self, axes: tuple[str, ...] | list[str], points: dict[Point, float], edge: str
    ) -> Grid:
        return Grid(axes, points, self._edges[edge], origin=str(self._folder))


REGIMES = {"decode": "pure", "mixed": "mixed"}
# The axes that a kind of iteration has; the others are 0.
MIXES = {"prefill": (0, 1), "decode": (2, 3), "mixed": (0, 1, 2, 3)}


def _part(points: dict[Point, float], axes: tuple[int, ...]) -> dict[Point, float]:
    """The points of one kind of iteration: batch sizes on its own axes, zero on the others."""
    sizes = [axis for axis in axes if axis in (0, 2)]
    others = [axis for axis in range(4) if axis not in axes]
    return {
        tuple(point[axis] for axis in axes): value
        for point, value in points.items()
        if all(point[axis] for axis in sizes) and not any(point[axis] for axis in others)
    }


def _alphas(path: Path) -> dict[str, dict[Point, float]]:
    """By regime and number of decodes, the alpha of least relative error; none without a file."""
    if not path.exists():
        return {}
    rows = read_rows(path, ("n", "t_mean_us", "t_max_us", "t_skew_us"), text="regime")
    spans: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for (n, mean, longest, skewed), regime in zip(rows.numbers, rows.texts, strict=True):
        relative = ((longest - mean) / mean, (skewed - mean) / mean)
        spans.setdefault((regime, n), []).append(relative)
    found: dict[str, dict[Point, float]] = {}
    for (regime, n), pairs in spans.items():
        cost = sum(x * y for x, y in pairs) / (sum(x * x for x, _ in pairs) or 1.0)
        found.setdefault(regime, {(1.0,): 0.0})[(n,)] = max(0.0, cost)  # one decode has no skew
    return found


def _named(path: Path, axis: str, names: tuple[str, ...]) -> dict[str, dict[Point, float]]:
    rows = read_rows(path, (axis, "time_us"), text="layer")
    tables: dict[str, dict[Point, float]] = {name: {} for name in names}
    for (where, time_us), name in zip(rows.numbers, rows.texts, strict=True):
        if name in tables:
            tables[name][(where,)] = time_us
    for name, table in tables.items():
        if not table:
            raise CostError(f"{path}: no rows for the layer {name}")
    return tables


def _summed(tables: dict[str, dict[Point, float]], times: dict[str, int]) -> dict[Point, float]:
    """One table for what always occurs together, over the points that all of them have."""
    shared = [
        point for point in next(iter(tables.values())) if all(point in tables[n] for n in times)
    ]
    return {point: sum(n * tables[name][point] for name, n in times.items()) for point in shared}
