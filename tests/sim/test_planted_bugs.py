"""Each planted bug makes some seed fail: the simulator would have found it.

The cores' own `check()` is switched off where a bug would show there at once:
what is shown is that the world sees it from outside.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from splitweave.cluster.core.stream import Stream
from splitweave.proto.effects import CloseLease, SetTimer
from splitweave.proto.worker_events import PeerLost
from splitweave.sim.campaign import first_failure
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import load_scenario
from splitweave.workers.core.blocks import BlockPool
from splitweave.workers.core.copies import CopyDesk
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.core.holdings import Holdings
from splitweave.workers.core.moves_source import SourceMoves

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEEDS = range(200)
Judge = Callable[[Any], bool]


class _Bent:
    """A core with something between it and the world."""

    def __init__(self, core: Any, hears: Judge, says: Judge) -> None:
        self._core = core
        self._hears = hears
        self._says = says

    def step(self, event: Any, now_ns: int) -> list[Any]:
        if not self._hears(event):
            return []
        return [effect for effect in self._core.step(event, now_ns) if self._says(effect)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


def _always(_: Any) -> bool:
    return True


class _BentWorkers(CoreBuilder):
    hears: Judge = staticmethod(_always)
    says: Judge = staticmethod(_always)

    def worker(self, info: Any) -> Any:
        return _Bent(super().worker(info), type(self).hears, type(self).says)


def _failure(builder: Any = CoreBuilder) -> str:
    result = first_failure(load_scenario(EXAMPLES / "faults.toml"), SEEDS, builder)
    assert result is not None, f"no seed in {SEEDS} fails"
    return result.error


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not look at themselves, when idle neither."""
    monkeypatch.setattr(WorkerCore, "check", lambda self: None)
    monkeypatch.setattr(BlockPool, "problem", lambda self, holders, lent: "")


class _NoHolds:
    """A block manager to which copies in flight do not matter."""

    def hold(self, blocks: Any) -> None: ...

    def release(self, blocks: Any) -> None: ...


@pytest.mark.usefixtures("unchecked")
def test_blocks_freed_before_the_commit_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source gives its blocks away when it stops, while copies still read them."""

    def init(self: Any, *given: Any) -> None:
        original_init(self, *given)
        self._blocks = _NoHolds()

    def hand_over(self: Any, move: Any, now_ns: int) -> None:
        original_hand_over(self, move, now_ns)
        self._holdings.blocks.release(move.sequence.blocks)
        move.sequence.blocks = ()

    original_init, original_hand_over = CopyDesk.__init__, SourceMoves._hand_over
    monkeypatch.setattr(CopyDesk, "__init__", init)
    monkeypatch.setattr(SourceMoves, "_hand_over", hand_over)
    assert "the right one is" in _failure()


@pytest.mark.usefixtures("unchecked")
def test_a_leased_block_used_again_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target frees the blocks of an aborted move while its writer still writes."""

    def quarantine(self: Any, blocks: Any) -> None:
        for block in blocks:
            del self._leased[block]
            self._free.append(block)

    monkeypatch.setattr(BlockPool, "quarantine", quarantine)
    monkeypatch.setattr(BlockPool, "absolve", lambda self, blocks: None)
    assert "is on its way to it" in _failure()


@pytest.mark.usefixtures("unchecked")
def test_a_lease_left_open_is_found() -> None:
    """The target frees the blocks, and its shell never hears that the lease is closed."""

    class Builder(_BentWorkers):
        says = staticmethod(lambda effect: not isinstance(effect, CloseLease))

    assert "leases open" in _failure(Builder)


@pytest.mark.usefixtures("unchecked")
def test_a_shared_block_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second holder of a shared prefix is forgotten: the first to end frees it for both."""

    def hold(self: Any, blocks: Any) -> None:
        for block in blocks:
            if self._references[block] == 0:
                del self._cached[block]
                self._held += 1
                self._references[block] = 1

    def release(self: Any, blocks: Any) -> None:
        original(self, [block for block in blocks if self._references[block] > 0])

    original = BlockPool.release
    monkeypatch.setattr(BlockPool, "hold", hold)
    monkeypatch.setattr(BlockPool, "release", release)
    assert _failure()


def test_blocks_freed_under_an_iteration_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request cancelled while the engine computes it gives its blocks away at once."""

    def remove_at_once(self: Any, sequence: Any) -> None:
        in_flight, sequence.in_flight = sequence.in_flight, False
        original(self, sequence)
        sequence.in_flight = in_flight

    original = Holdings.remove
    monkeypatch.setattr(Holdings, "remove", remove_at_once)
    assert _failure()


def test_a_gateway_that_delivers_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that the client has in part are delivered whole."""

    def take(self: Any, first_index: int, tokens: Any) -> Any:
        return tokens if first_index <= self.next_index < first_index + len(tokens) + 1 else ()

    monkeypatch.setattr(Stream, "take", take)
    assert _failure()


def test_a_worker_deaf_to_a_peers_death_is_found() -> None:
    class Builder(_BentWorkers):
        hears = staticmethod(lambda event: not isinstance(event, PeerLost))

    assert "quarantined" in _failure(Builder)


@pytest.mark.parametrize("kind", ["target_move", "resend"])
def test_a_lost_timer_is_found(kind: str) -> None:
    class Builder(_BentWorkers):
        says = staticmethod(
            lambda effect: not (isinstance(effect, SetTimer) and effect.key.kind == kind)
        )

    assert _failure(Builder)
