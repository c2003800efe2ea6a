"""Processes are kept from test to test: importing torch is what costs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # kv_mesh, rank_groups, …: imported by these tests only

from kv_mesh import Mesh, PeerProcess
from rank_groups import RANK_PEER, Groups


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


@pytest.fixture(scope="session")
def idle_ranks() -> Iterator[list[PeerProcess]]:
    ranks = [PeerProcess(RANK_PEER) for _ in range(6)]
    for rank in ranks:
        rank.wait(lambda words: words[0] == "ready")
    yield ranks
    for rank in ranks:
        rank.end()


@pytest.fixture
def groups(idle_ranks: list[PeerProcess]) -> Iterator[Callable[..., Groups]]:
    """Makes the groups of one test."""
    made: list[Groups] = []

    def make(*arguments: Any, **named: Any) -> Groups:
        made.append(Groups(idle_ranks, *arguments, **named))
        return made[-1]

    yield make
    for each in made:
        each.end()
