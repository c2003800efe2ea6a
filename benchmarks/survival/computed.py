"""Which positions of which request were computed more than once, by every worker's recording."""

from collections import defaultdict
from pathlib import Path

from splitweave.cluster.live.config import ClusterConfig
from splitweave.cluster.live.setups import worker_setup
from splitweave.proto.cluster_events import WorkerRegistered
from splitweave.proto.effects import RunIteration
from splitweave.proto.ids import RequestId, WorkerId
from splitweave.proto.record import read_steps
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.models.spec_file import read_spec


def computed_again(folder: Path, config: ClusterConfig) -> dict[RequestId, int]:
    """Tokens that were computed twice, by request, over all workers and all their lives."""
    infos = {
        step.event.info.key: step.event.info
        for step in read_steps(folder / "controller.jsonl")
        if isinstance(step.event, WorkerRegistered)
    }
    counts: dict[RequestId, list[int]] = defaultdict(list)
    for key, info in infos.items():
        pool = next(pool for pool in config.pools if pool.name == info.pool)
        setup = worker_setup(config, pool, WorkerId(key.worker_id))
        core = WorkerCore(info, setup.limits, read_spec(Path(setup.model_path)).layers)
        for step in read_steps(folder / f"{key.worker_id}-{key.incarnation}.jsonl"):
            for effect in core.step(step.event, step.now_ns):
                for chunk in effect.batch.chunks if isinstance(effect, RunIteration) else ():
                    counts[chunk.request_id] += range(chunk.start, chunk.end)
    return {
        request_id: len(positions) - len(set(positions))
        for request_id, positions in counts.items()
        if len(positions) != len(set(positions))
    }
