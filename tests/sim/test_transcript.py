"""Digests: nothing that a core hears, does, or when, may differ unnoticed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sim_worlds import key, scenario, tokens
from splitweave.proto.effects import CloseLease, DeliverTokens, OpenLease
from splitweave.proto.ids import MoveId, RequestId
from splitweave.proto.record import read_steps
from splitweave.proto.timers import SetTimer, TimerFired, TimerKey
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.run import simulate
from splitweave.sim.transcript import Transcript

EVENT = TimerFired(TimerKey("view"))
DELIVERY = DeliverTokens(
    request_id=RequestId("r"), first_index=3, tokens=tokens(7, 8), worker=key("w")
)
STEP: dict[str, Any] = {
    "core": "w#1",
    "now_ns": 5,
    "event": EVENT,
    "effects": [OpenLease(move_id=MoveId("m"), lease=1), DELIVERY],
}


def _digest(*steps: dict[str, Any]) -> str:
    transcript = Transcript()
    for step in steps:
        transcript.record(**step)
    return transcript.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"core": "w#2"},
        {"now_ns": 6},
        {"event": TimerFired(TimerKey("view", "x"))},
        {"effects": []},
        {"effects": STEP["effects"][:1]},
        {"effects": STEP["effects"][::-1]},
        {"effects": [CloseLease(move_id=MoveId("m"), lease=1), DELIVERY]},
        {"effects": [STEP["effects"][0], replace(DELIVERY, first_index=4)]},
        {"effects": [STEP["effects"][0], replace(DELIVERY, tokens=tokens(7, 9))]},
        {"effects": [STEP["effects"][0], replace(DELIVERY, worker=key("w", 2))]},
        {"effects": [*STEP["effects"], SetTimer(TimerKey("view"), 9)]},
    ],
    ids=str,
)
def test_any_change_of_a_step_changes_the_digest(change: dict[str, Any]) -> None:
    assert _digest(STEP) == _digest(dict(STEP))
    assert _digest(STEP | change) != _digest(STEP)


def test_the_order_of_a_cores_steps_counts_and_that_among_cores_does_not() -> None:
    early, late, other = STEP, STEP | {"now_ns": 9}, STEP | {"core": "v#1"}
    assert _digest(early, late) != _digest(late, early)
    assert _digest(early, late, other) == _digest(other, early, late)
    assert _digest(early, late) != _digest(early) != _digest(early, other)


def test_one_late_effect_of_one_core_changes_that_cores_digest_first() -> None:
    """A core that sets one timer a nanosecond later, once, does not stay unnoticed."""

    class Late(CoreBuilder):
        def gateway(self, gateway_id: Any) -> Any:
            core = super().gateway(gateway_id)
            step, done = core.step, []

            def bent(event: Any, now_ns: int) -> list[Any]:
                effects = step(event, now_ns)
                for n, effect in enumerate(effects):
                    if isinstance(effect, SetTimer) and not done:
                        done.append(effect)
                        effects[n] = replace(effect, at_ns=effect.at_ns + 1)
                return effects

            core.step = bent  # type: ignore[method-assign]
            return core

    transcripts = []
    for builder in (CoreBuilder, Late):
        transcripts.append(Transcript())
        simulate(scenario(), transcript=transcripts[-1], builder=builder(scenario()))
    right, bent = (transcript.digests() for transcript in transcripts)
    assert [core for core in right if right[core] != bent[core]] == ["gateway.0#1"]
    assert transcripts[0].digest() != transcripts[1].digest()


def test_recordings_hold_every_step_of_every_core(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path)
    simulate(scenario(), transcript=transcript)
    transcript.close()
    steps = transcript.steps()
    assert set(steps) == {"controller#1", "gateway.0#1", "prefill-0#1", "decode-0#1"}
    for core, count in steps.items():
        recorded = list(read_steps(tmp_path / f"{core}.jsonl"))
        assert len(recorded) == count > 0
        assert [s.now_ns for s in recorded] == sorted(s.now_ns for s in recorded)


def test_watching_changes_nothing(tmp_path: Path) -> None:
    plain, recorded = Transcript(), Transcript(tmp_path)
    simulate(scenario(), transcript=plain)
    simulate(scenario(), transcript=recorded)
    recorded.close()
    assert plain.digest() == recorded.digest()
    stepped = scenario(fast_forward=False)
    assert simulate(stepped).events == simulate(stepped, transcript=Transcript()).events
