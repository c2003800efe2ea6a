"""Draws one request from a cluster's recordings: chunks, copies, decode, a migration.

    python benchmarks/timeline.py FOLDER [--config cluster.toml]
                                  [--request ID --svg timeline.svg] [--json spans.json]

FOLDER is what `record` named. The workers' files are replayed through fresh cores,
which gives the orders that their engines got; all clocks are one machine's. A copy
that rides on an iteration begins when its last layer was stored, estimated by its
share of the layers.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from splitweave.cluster.live.config import ClusterConfig, load_config
from splitweave.cluster.live.demo.run import demo_config
from splitweave.cluster.live.setups import worker_setup
from splitweave.proto.cluster_events import WorkerRegistered
from splitweave.proto.effects import CopyBlocks, RunIteration, ToWorker
from splitweave.proto.move import Copy, MoveKind
from splitweave.proto.record import read_steps
from splitweave.proto.views import WorkerInfo
from splitweave.proto.worker_events import (
    CopySent,
    FetchAsked,
    HandoverOffered,
    IterationDone,
    LeaseAsked,
    LeaseOpened,
)
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.models.spec_file import read_spec

COLORS = {"prefill": "#4477aa", "decode": "#66ccee", "handoff": "#ccbb44", "migration": "#ee6677"}
CALM_NS, ITERATIONS_MIN = 1_000_000_000, 5
NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH, ROW, LEFT, TOP = 1200, 26, 190, 60


@dataclass
class Span:
    """An iteration or a copy: what it was, of which requests, how many tokens or bytes."""

    begin_ns: int
    end_ns: int
    kind: str
    request_ids: tuple[str, ...]
    size: int


class Life:
    """One life of a worker: what its engine ran, and what left it."""

    def __init__(self, name: str, layers: int) -> None:
        self.name = name
        self.spans: list[Span] = []
        self.copying: list[tuple[int, int]] = []  # migrations: lease opened to handover offered
        self._layers = layers
        self._moves: dict[str, tuple[MoveKind, str]] = {}  # by move: what it is, whose
        self._opened: dict[str, int] = {}
        self._copies: dict[str, tuple[int, Copy]] = {}
        self._order: tuple[RunIteration, int] | None = None

    def replay(self, path: Path, core: WorkerCore) -> None:
        for now_ns, event, _ in read_steps(path):
            self._take(event, now_ns)
            for effect in core.step(event, now_ns):
                self._give(effect, now_ns)

    def _take(self, event: Any, now_ns: int) -> None:
        if isinstance(event, IterationDone) and self._order is not None:
            self._iterated(*self._order, now_ns)
        elif isinstance(event, FetchAsked):
            self._moves.setdefault(event.move_id, (MoveKind.FETCH, str(event.request_id)))
        elif isinstance(event, LeaseOpened):
            self._opened.setdefault(event.move_id, now_ns)
        elif isinstance(event, CopySent) and event.copy_id in self._copies:
            began_ns, copy = self._copies.pop(event.copy_id)
            kind, request_id = self._moves[copy.move_id]
            began_ns = min(began_ns, now_ns)
            self.spans.append(
                Span(began_ns, now_ns, str(kind), (request_id,), event.transfer_bytes)
            )

    def _iterated(self, order: RunIteration, began_ns: int, now_ns: int) -> None:
        chunks = order.batch.chunks
        kind = "decode" if order.batch.tokens == len(chunks) else "prefill"
        ids = tuple(str(chunk.request_id) for chunk in chunks)
        self.spans.append(Span(began_ns, now_ns, kind, ids, order.batch.tokens))
        self._order = None

    def _give(self, effect: Any, now_ns: int) -> None:
        match effect:
            case RunIteration(copies=copies):
                self._order = (effect, now_ns)
                for copy in copies:
                    self._copies[copy.copy_id] = (now_ns, copy)
            case CopyBlocks(copy=copy):
                self._copies[copy.copy_id] = (now_ns, copy)
            case ToWorker(event=LeaseAsked() as asked):
                self._moves.setdefault(asked.move_id, (asked.kind, str(asked.request.request_id)))
            case ToWorker(event=HandoverOffered(move_id=move_id)) if move_id in self._opened:
                opened_ns = self._opened.pop(move_id)
                if self._moves[move_id][0] is MoveKind.MIGRATION:
                    self.copying.append((opened_ns, now_ns))


def slowdowns(life: Life) -> Iterator[float]:
    """Per migration and batch size: decode iterations while it copies, over those just before."""
    decodes = [span for span in life.spans if span.kind == "decode"]
    for begin_ns, end_ns in life.copying:
        found: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for span in decodes:
            during = begin_ns <= span.begin_ns and span.end_ns <= end_ns
            if during or (begin_ns - CALM_NS <= span.begin_ns and span.end_ns <= begin_ns):
                found[span.size, during].append(span.end_ns - span.begin_ns)
        for size in sorted({size for size, _ in found}):
            copying, calm = found[size, True], found[size, False]
            if min(len(copying), len(calm)) >= ITERATIONS_MIN:
                yield statistics.median(copying) / statistics.median(calm)


def lives_of(folder: Path, config: ClusterConfig) -> Iterator[Life]:
    """Every worker life that was recorded, prefill pools first, as the config lists them."""
    infos: dict[str, WorkerInfo] = {}
    for now in read_steps(folder / "controller.jsonl"):
        if isinstance(now.event, WorkerRegistered):
            info = now.event.info
            infos.setdefault(f"{info.key.worker_id}-{info.key.incarnation}", info)
    pools = {pool.name: pool for pool in config.pools}
    order = list(pools)
    for name, info in sorted(infos.items(), key=lambda item: (order.index(item[1].pool), item[0])):
        path = folder / f"{name}.jsonl"
        setup = worker_setup(config, pools[info.pool], info.key.worker_id)
        layers = read_spec(Path(setup.model_path)).layers
        life = Life(str(info.key.worker_id), layers)
        if path.exists():
            life.replay(path, WorkerCore(info, setup.limits, layers))
            yield life


def svg(lives: list[Life], request_id: str) -> str:
    """Two rows per worker, iterations and copies, on one axis in milliseconds."""
    rows = [
        (f"{life.name} {what}", [s for s in life.spans if wanted(s, request_id, what)])
        for life in lives
        for what in ("computes", "copies")
    ]
    rows = [(name, spans) for name, spans in rows if spans]
    spans = [span for _, found in rows for span in found]
    begin, end = min(s.begin_ns for s in spans), max(s.end_ns for s in spans)
    scale, took_ms = (WIDTH - LEFT - 20) / (end - begin), (end - begin) / 1e6
    height = TOP + ROW * len(rows) + 40
    parts = [
        f'<svg xmlns="{NAMESPACE}" width="{WIDTH}" height="{height}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14">Request {request_id}: {took_ms:.0f} ms</text>',
    ]
    for number, (kind, color) in enumerate(COLORS.items()):
        at = LEFT + number * 130
        parts.append(f'<rect x="{at}" y="32" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="{at + 18}" y="43">{kind}</text>')
    for number, (name, found) in enumerate(rows):
        top = TOP + ROW * number
        parts.append(f'<text x="10" y="{top + 15}">{name}</text>')
        for span in found:
            at = LEFT + (span.begin_ns - begin) * scale
            wide = max(1.0, (span.end_ns - span.begin_ns) * scale - 0.5)
            parts.append(
                f'<rect x="{at:.1f}" y="{top}" width="{wide:.1f}" height="{ROW - 6}" '
                f'fill="{COLORS[span.kind]}"/>'
            )
    for tick in range(11):
        at = LEFT + (end - begin) * scale * tick / 10
        label = f"{(end - begin) * tick / 10 / 1e6:.0f}"
        parts.append(f'<text x="{at:.0f}" y="{height - 15}" text-anchor="middle">{label}</text>')
    return "\n".join([*parts, "</svg>\n"])


def wanted(span: Span, request_id: str, what: str) -> bool:
    """Whether a span belongs in a row of that request."""
    computes = span.kind in ("prefill", "decode")
    return request_id in span.request_ids and computes == (what == "computes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the recordings are")
    parser.add_argument("--config", type=Path, help="as it was; default: the demo's")
    parser.add_argument("--request", metavar="ID", help="the request to draw")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw it there")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all spans there")
    options = parser.parse_args()
    config = load_config(options.config) if options.config else demo_config()
    lives = list(lives_of(options.folder, config))
    if options.json:
        options.json.write_text(json.dumps([{"name": life.name, "slowdowns": list(slowdowns(life)),
            "spans": [asdict(span) for span in life.spans]} for life in lives]))  # fmt: skip
    if options.svg and options.request:
        options.svg.write_text(svg(lives, options.request))


if __name__ == "__main__":
    main()
