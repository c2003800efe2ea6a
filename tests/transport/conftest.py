"""Processes are kept from test to test: importing torch is what costs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # kv_mesh, kv_peer: imported by these tests only

from kv_mesh import Mesh, PeerProcess


@pytest.fixture(scope="session")
def idle_peers() -> Iterator[list[PeerProcess]]:
    peers = [PeerProcess() for _ in range(3)]  # they import torch side by side
    for peer in peers:
        peer.wait(lambda words: words[0] == "ready")
    yield peers
    for peer in peers:
        peer.end()


@pytest.fixture
def mesh(idle_peers: list[PeerProcess]) -> Iterator[Mesh]:
    mesh = Mesh(idle_peers)
    yield mesh
    mesh.end()
