"""One Ray session and one 1P2D cluster for all live tests; both end with the session."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from splitweave.client import Client
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig
from splitweave.cluster.live.demo.run import demo_config

FOLDER = Path(__file__).parent
TIMEOUT_S = 300  # whole clusters start and die in these tests


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
    return dataclasses.replace(demo_config(), record=str(recordings))


@pytest.fixture(scope="session")
def cluster(config: ClusterConfig) -> Iterator[LiveCluster]:
    running = LiveCluster.start(config)
    yield running
    running.stop()


@pytest.fixture
def client(cluster: LiveCluster) -> Iterator[Client]:
    with Client(cluster.address, timeout_s=120.0) as connected:
        yield connected
