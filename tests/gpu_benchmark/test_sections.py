"""The sections' own code over gloo and on the CPU: all of it but NCCL and CUDA."""

from collections.abc import Callable
from dataclasses import replace

import block_copies
import model
import motion
import pytest
from gpu_outcome import Findings, State, judge
from random_model import write_random_model
from settings import MIB, Settings

SETTINGS = Settings(
    device="cpu", backend="gloo", seconds=0.02, sizes=(64 << 10, 1 * MIB), total_bytes=2 * MIB,
    large_bytes=64 * MIB, copy_timeout_s=60.0, slack_s=10.0, shapes=(),
    prompts=1, output_tokens=4,
)  # fmt: skip
# On a busy machine a pair may stand still for seconds: only who must give up is in a hurry.
HASTY = replace(SETTINGS, copy_timeout_s=3.0)
MOTION = {
    "copies": motion.copies,
    "both ways": motion.both_ways,
    "killed peer": motion.killed_peer,
    "frozen peer": motion.frozen_peer,
    "eviction": motion.eviction,
}


@pytest.mark.parametrize("name", MOTION)
def test_a_section_on_the_transport_holds_over_gloo(name: str) -> None:
    findings = Findings()
    section: Callable[[Findings, Settings], None] = MOTION[name]
    section(findings, HASTY if name == "frozen peer" else SETTINGS)
    assert judge(findings) == (State.PASSED, "")
    assert findings.claims


def test_a_peer_that_cannot_be_paired_with_fails_with_the_reason() -> None:
    findings = Findings()
    with motion.Fleet(SETTINGS) as fleet:
        a, b = fleet.start("a", "b")
        b.kill()
        with pytest.raises(SystemExit, match="it works: "):
            motion._works(findings, "it works", fleet, a, b)
    assert judge(findings)[0] is State.FAILED


def test_the_kernels_section_compares_with_the_reference() -> None:
    findings = Findings()
    block_copies.block_copies(findings, SETTINGS)
    assert judge(findings) == (State.PASSED, "")
    assert len(findings.claims) == 2


def test_the_engines_section_compares_two_engines_and_sees_a_wrong_one() -> None:
    path = write_random_model(layers=2, vocab=64)
    findings = Findings()
    one, two = model.load(path, "cpu"), model.load(path, "cpu")
    model.compare(findings, one, two, SETTINGS)
    assert judge(findings) == (State.PASSED, "")
    two._decoder = model.load(write_random_model(layers=1, vocab=64), "cpu")._decoder
    model.compare(findings, one, two, SETTINGS)
    assert judge(findings)[0] is State.FAILED


def test_the_engines_speed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PREFILL_TOKENS", 32)
    monkeypatch.setattr(model, "DECODE_BATCHES", (1, 2))
    findings = Findings()
    model.speed(findings, model.load(write_random_model(layers=1, vocab=64), "cpu"))
    assert [figure.unit for figure in findings.figures] == ["tokens/s"] * 3
    assert all(figure.value > 0 for figure in findings.figures)
