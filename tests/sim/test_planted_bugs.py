"""Each planted bug makes some seed fail: the simulator would have found it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from splitweave.proto.effects import SetTimer
from splitweave.proto.worker_events import PeerLost, RequestCancelled
from splitweave.sim.campaign import first_failure
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import load_scenario
from splitweave.workers.core.blocks import BlockManager
from splitweave.workers.core.holdings import Holdings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEEDS = range(60)


class _Bent:
    """A core with something between it and the world."""

    def __init__(self, core: Any, hears: Callable[[Any], bool], says: Callable[[Any], bool]):
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


def _bent_worker(hears: Callable[[Any], bool] = _always, says: Callable[[Any], bool] = _always):
    class Builder(CoreBuilder):
        def worker(self, info: Any) -> Any:
            return _Bent(super().worker(info), hears, says)

    return Builder


def _failure(builder: Any = CoreBuilder) -> str:
    result = first_failure(load_scenario(EXAMPLES / "faults.toml"), SEEDS, builder)
    assert result is not None, f"no seed in {SEEDS} fails"
    return result.error


def test_blocks_freed_before_the_commit_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Holdings.stop

    def stop_and_free(self: Any, sequence: Any) -> None:
        stop(self, sequence)
        self.blocks.release(sequence.blocks)
        self.blocks.hold = lambda blocks: None

    monkeypatch.setattr(Holdings, "stop", stop_and_free)
    assert _failure()


def test_a_leased_block_used_again_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def quarantine(self: Any, blocks: Any) -> None:
        for block in blocks:
            del self._leased[block]
            self._free.append(block)

    monkeypatch.setattr(BlockManager, "quarantine", quarantine)
    monkeypatch.setattr(BlockManager, "absolve", lambda self, blocks: None)
    assert _failure()


def test_a_reference_counted_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = BlockManager.hold

    def hold_twice(self: Any, blocks: Any) -> None:
        hold(self, blocks)
        hold(self, blocks)

    monkeypatch.setattr(BlockManager, "hold", hold_twice)
    assert _failure()


def test_blocks_freed_under_an_iteration_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Holdings.remove

    def remove_at_once(self: Any, sequence: Any) -> None:
        sequence.in_flight = False
        remove(self, sequence)

    monkeypatch.setattr(Holdings, "remove", remove_at_once)
    assert _failure()


def test_a_worker_deaf_to_a_peers_death_is_found() -> None:
    assert _failure(_bent_worker(hears=lambda event: not isinstance(event, PeerLost)))


def test_a_worker_deaf_to_cancellation_is_found() -> None:
    assert _failure(_bent_worker(hears=lambda event: not isinstance(event, RequestCancelled)))


def test_a_lost_timer_is_found() -> None:
    def says(effect: Any) -> bool:
        return not (isinstance(effect, SetTimer) and effect.key.kind == "source_move")

    assert _failure(_bent_worker(says=says))
