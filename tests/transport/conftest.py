"""Processes are kept from test to test: importing torch is what costs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # kv_mesh, rank_groups, …: imported by these tests only

from kv_mesh import START_S, Mesh, PeerProcess
from rank_groups import RANK_PEER, Groups
from splitweave.workers.live.transport import Way


@pytest.fixture(scope="session")
def idle_peers() -> Iterator[list[PeerProcess]]:
    peers = [PeerProcess() for _ in range(3)]  # they import torch side by side
    for peer in peers:
        peer.wait(lambda words: words[0] == "ready", START_S)
    yield peers
    for peer in peers:
        peer.end()


@pytest.fixture(params=list(Way))
def mesh(idle_peers: list[PeerProcess], request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """Over gloo, then over shared memory: the same claims hold."""
    mesh = Mesh(idle_peers, request.param)
    yield mesh
    mesh.end()


@pytest.fixture(scope="session")
def idle_ranks() -> Iterator[list[PeerProcess]]:
    ranks = [PeerProcess(RANK_PEER) for _ in range(6)]
    for rank in ranks:
        rank.wait(lambda words: words[0] == "ready", START_S)
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
