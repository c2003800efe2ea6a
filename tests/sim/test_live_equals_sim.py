"""The live shell's code on a virtual loop and the simulator are the same run.

`CoreShell` of `workers.live` is what steps every core in the live system: its
timers, its order of effects. Here it drives the same world on an asyncio loop
whose clock jumps; only the wall clock it reads is replaced.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from splitweave.proto.record import replay
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.loop import LoopScheduler, VirtualLoop
from splitweave.sim.run import Run, arrivals_of, simulate
from splitweave.sim.scenario import load_scenario
from splitweave.sim.transcript import Transcript
from splitweave.sim.world import Watching, World, queue_world
from splitweave.workers.live import core_shell

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
END_NS = 60_000_000_001


class _Clock:
    """Stands in for the `time` module of the live shell."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def monotonic_ns(self) -> Any:
        return self._loop.now_ns


class _Watcher:
    """A live recorder that tells the world's watch."""

    def __init__(self, watch: Any) -> None:
        self.record = watch


def _scenario(seed: int) -> Any:
    """A bad hour without freezes: a stopped process has no live counterpart on one loop."""
    scenario = load_scenario(EXAMPLES / "faults.toml")
    return replace(scenario, seed=seed, faults=replace(scenario.faults, freezes=0))


def _live(scenario: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    loop, transcript = VirtualLoop(), Transcript()
    monkeypatch.setattr(core_shell, "time", _Clock(loop))

    def open_shell(step: Any, perform: Any, watch: Any) -> Any:
        return core_shell.CoreShell(step, perform, _Watcher(watch))

    async def main() -> None:
        watching = Watching(transcript=transcript, checked=True)
        world = World(scenario, CoreBuilder(scenario), watching, LoopScheduler(loop), open_shell)
        run = Run(world, arrivals_of(scenario))
        done = loop.create_future()
        loop.set_exception_handler(lambda _, context: done.set_exception(context["exception"]))
        loop.call_at(END_NS / 1e9, done.set_result, None)
        await done
        run.judge_end()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return transcript


def _simulated(scenario: Any) -> Any:
    transcript = Transcript()
    watching = Watching(transcript=transcript, checked=True)
    world = queue_world(scenario, CoreBuilder(scenario), watching)
    run = Run(world, arrivals_of(scenario))
    world.scheduler.run_until(END_NS)
    run.judge_end()
    return transcript


@pytest.mark.parametrize("seed", range(3, 8))
def test_live_shell_and_simulator_give_the_same_digest(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = _scenario(seed)
    simulated = _simulated(scenario)
    lived = _live(scenario, monkeypatch)
    assert lived.steps() == simulated.steps()
    assert lived.digests() == simulated.digests()
    assert lived.digest() == simulated.digest()


def test_every_core_of_a_recorded_run_replays_to_its_digest(tmp_path: Path) -> None:
    scenario = _scenario(5)
    transcript = Transcript(tmp_path)
    outcome = simulate(scenario, transcript=transcript)
    transcript.close()
    builder = CoreBuilder(scenario)
    fresh = {f"gateway.{n}#1": builder.gateway(f"gateway.{n}") for n in range(2)}
    fresh["controller#1"] = builder.cluster()
    for party in outcome.world.mail.workers.values():
        fresh[str(party.key)] = builder.worker(party.info)
    for name, core in fresh.items():
        assert replay(tmp_path / f"{name}.jsonl", core) == transcript.digests()[name]
