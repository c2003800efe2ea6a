"""A recorded live run, replayed through fresh cores, gives the same effects."""

import shutil
from pathlib import Path

from splitweave.client import Client
from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.core.gateway import GatewayCore
from splitweave.cluster.live.config import ClusterConfig
from splitweave.cluster.live.setups import controller_setup, gateway_setup, worker_setup
from splitweave.proto.cluster_events import WorkerRegistered
from splitweave.proto.ids import GatewayId, WorkerId
from splitweave.proto.record import read_steps, replay
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.models.spec_file import read_spec


def test_a_recorded_live_run_replays_with_the_same_effects(
    client: Client, config: ClusterConfig, recordings: Path, tmp_path: Path
) -> None:
    client.generate("A river crosses the town and " * 20, max_tokens=16, ignore_eos=True)
    # The cores go on recording: a copy stands still.
    taken = Path(shutil.copytree(recordings, tmp_path / "recordings"))
    gateway_id = GatewayId("gateway-0")

    gateway = gateway_setup(config, gateway_id)
    assert replay(taken / "gateway-0.jsonl", GatewayCore(gateway_id, gateway.limits))

    setup = controller_setup(config, (), (gateway_id,))
    controller = ClusterCore(setup.limits, setup.policy, setup.block_tokens)
    assert replay(taken / "controller.jsonl", controller)

    infos = [
        step.event.info
        for step in read_steps(taken / "controller.jsonl")
        if isinstance(step.event, WorkerRegistered)
    ]
    layers = read_spec(Path(gateway.model_path)).layers
    lives = {info.key: info for info in infos}
    assert len(lives) >= config.workers
    for key, info in lives.items():
        pool = next(pool for pool in config.pools if pool.name == info.pool)
        worker = worker_setup(config, pool, WorkerId(key.worker_id))
        core = WorkerCore(info, worker.limits, layers)
        assert replay(taken / f"{key.worker_id}-{key.incarnation}.jsonl", core)
