"""One Ray session and one 1P2D cluster for all live tests; both end with the session."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from splitweave.client import Client
from splitweave.cluster.live import cluster as live
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import (
    ClusterConfig,
    ControllerConfig,
    GatewayConfig,
    PoolConfig,
    RayConfig,
)
from splitweave.cluster.live.demo.run import demo_config
from splitweave.proto.views import Role

FOLDER = Path(__file__).parent
TIMEOUT_S = 900  # whole clusters start and die in these tests, on a busy machine too
# A worker that a busy machine leaves no time for six seconds is rare; one of two is not.
PATIENT = ControllerConfig(suspect_after_s=3.0, dead_after_s=6.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="session")
def config(recordings: Path) -> ClusterConfig:
    return dataclasses.replace(demo_config(), record=str(recordings), controller=PATIENT)


@pytest.fixture(scope="session", autouse=True)
def slow_starts() -> Iterator[None]:
    """Three workers on a starved machine once took longer than an operator would wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "START_TIMEOUT_S", 600.0)
        yield


@pytest.fixture(scope="session")
def cluster(config: ClusterConfig) -> Iterator[LiveCluster]:
    running = LiveCluster.start(config)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def pair(cluster: LiveCluster, config: ClusterConfig) -> Iterator[LiveCluster]:
    """One mixed worker behind two gateways, beside the session's cluster."""
    del cluster  # its Ray session is ours
    running = LiveCluster.start_beside(
        dataclasses.replace(
            config,
            pools=[PoolConfig(name="two", role=Role.MIXED, count=1, cpus=0.2)],
            gateway=GatewayConfig(count=2, port=0),
            ray=RayConfig(address="local", namespace="splitweave-pair"),
            record="",
        )
    )
    yield running
    running.stop()


@pytest.fixture
def client(cluster: LiveCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout_s=400.0) as connected:
        yield connected
