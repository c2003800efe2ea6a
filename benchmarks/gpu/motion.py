"""Sections on the transport: the same code over NCCL on a GPU, and over gloo in the tests."""

import time

from gpu_fleet import CONTINUE, STOP, Fleet, Process
from gpu_outcome import Findings
from peer import digest, payload
from settings import MIB, Settings

EDGES = (0, 1, 7, 4096, MIB - 1, MIB + 1, 9 * MIB + 5)
BOTH_WAYS = 40
PLACES = 2


def copies(findings: Findings, settings: Settings) -> None:
    with Fleet(settings) as fleet:
        a, b = fleet.start("a", "b")
        before, began_at = a.used_bytes(), time.monotonic()
        _works(findings, "the first copy arrives: two ranks of one GPU are paired", fleet, a, b)
        findings.figure("first copy, pairing included", time.monotonic() - began_at, "s")
        findings.figure("GPU memory of one pair, both ends", (a.used_bytes() - before) / MIB, "MiB")
        names = {fleet.send(a, b, size, size): size for size in EDGES}
        equal = [_landed_equal(b, name, size, size) for name, size in names.items()]
        findings.claim("copies of every size arrive equal", all(equal), f"{len(equal)} sizes")
        fleet.with_digest = False
        for size in settings.sizes:
            rate = _rate(fleet, a, b, size)
            findings.figure(f"copies of {size / MIB:g} MiB", rate / 1e9, "GB/s")
        _nobody_stuck(findings, a, b)


def both_ways(findings: Findings, settings: Settings) -> None:
    with Fleet(settings) as fleet:
        a, b = fleet.start("a", "b")
        _works(findings, "a to b works", fleet, a, b)
        _works(findings, "b to a works", fleet, b, a)
        sent = [
            (target, fleet.send(source, target, number, 3 * MIB))
            for number in range(BOTH_WAYS)
            for source, target in ((a, b), (b, a))
        ]
        began_at = time.monotonic()
        ends = [target.end("landed", name)[0] for target, name in sent]
        failed = [end.error for end in ends if not end.ok]
        findings.claim(
            f"{2 * BOTH_WAYS} copies, both ways at once, arrive", not failed, *failed[:1]
        )
        rate = 2 * BOTH_WAYS * 3 * MIB / (time.monotonic() - began_at)
        findings.figure("both ways together, digests included", rate / 1e9, "GB/s")
        _nobody_stuck(findings, a, b)


def killed_peer(findings: Findings, settings: Settings) -> None:
    with Fleet(settings) as fleet:
        a, b = fleet.start("a", "b")
        _works(findings, "a to b works", fleet, a, b)
        b.signal(STOP)  # so that the copy is surely under way
        name = fleet.send(a, b, settings.large_bytes, word="send_staged")
        a.wait("header", "")  # the first copy's
        time.sleep(0.5)
        b.kill()
        time.sleep(0.5)
        told = any(words[0] == "sent" and words[1].copy_id == name for words in a.said)
        findings.claim("noticed before anybody says so (for information)", True, told)
        declared_at = time.monotonic()
        a.order("close_pair", b.key)  # what a worker does when it hears of a peer's death
        result, at = a.end("sent", name)
        released_s = max(0.0, at - declared_at)
        findings.claim("the copy to a dead peer fails", not result.ok, result.error)
        findings.figure("from the news of the death to the survivor's release", released_s, "s")
        quick = released_s < settings.slack_s
        findings.claim(f"released within {settings.slack_s:g} s", quick, f"{released_s:.2f} s")
        (again,) = fleet.start("b", incarnation=2)
        _works(findings, "its next life is paired with", fleet, a, again)
        _nobody_stuck(findings, a, again)


def frozen_peer(findings: Findings, settings: Settings) -> None:
    with Fleet(settings) as fleet:
        a, b = fleet.start("a", "b")
        _works(findings, "a to b works", fleet, a, b)
        b.signal(STOP)
        name = fleet.send(a, b, settings.large_bytes, word="send_staged")
        result, _ = a.end("sent", name)
        findings.claim("the copy to a frozen peer fails", not result.ok, result.error)
        late_s = result.seconds - settings.copy_timeout_s
        seen = f"{result.seconds:.1f} s"
        claim = f"at its timeout, {settings.slack_s:g} s later at most"
        findings.claim(claim, -0.1 <= late_s < settings.slack_s, seen)
        b.signal(CONTINUE)
        b.end("landed", name)
        _works(findings, "when it thaws they pair anew", fleet, a, b)
        _nobody_stuck(findings, a, b)


def eviction(findings: Findings, settings: Settings) -> None:
    with Fleet(settings) as fleet:
        (a,) = fleet.start("a", pairs_max=PLACES)
        others = fleet.start("b", "c", "d")
        before, used = a.used_bytes(), []
        for _ in range(3):
            for target in others:
                _works(findings, f"a to {target.key.worker_id} works", fleet, a, target)
                used.append((a.used_bytes() - before) / MIB)
        findings.figure("GPU memory after three pairings", used[2], "MiB")
        findings.figure("GPU memory after nine pairings", used[-1], "MiB")
        grown = used[-1] - used[2]
        claim = "evicted pairs give their memory back (growth < 64 MiB)"
        findings.claim(claim, grown < 64, f"{grown:.0f} MiB")
        _nobody_stuck(findings, a, *others)


def _works(findings: Findings, claim: str, fleet: Fleet, source: Process, target: Process) -> None:
    """One copy arrives equal; the section cannot go on without it."""
    name = fleet.send(source, target, 5, 2 * MIB)
    result, _ = source.end("sent", name)
    if not result.ok:
        findings.claim(claim, False, result.error)
        raise SystemExit(f"{claim}: {result.error}")
    findings.claim(claim, _landed_equal(target, name, 5, 2 * MIB))


def _landed_equal(target: Process, name: str, seed: int, size: int) -> bool:
    _, result, _, *digests = target.wait("landed", name)
    return bool(result.ok and digests == [digest(payload(seed, size))])


def _rate(fleet: Fleet, source: Process, target: Process, size: int) -> float:
    """Bytes per second from the first order to the last landing; the best of two rounds."""
    count = max(2, min(512, fleet.settings.total_bytes // size))
    best = 0.0
    for _ in range(2):
        began_at = time.monotonic()
        names = [fleet.send(source, target, size, word="send_staged") for _ in range(count)]
        ends = [target.end("landed", name) for name in names]
        assert all(result.ok for result, _ in ends), ends
        best = max(best, size * count / (max(at for _, at in ends) - began_at))
    return best


def _nobody_stuck(findings: Findings, *processes: Process) -> None:
    stuck = [reason for process in processes for reason in process.stuck()]
    findings.claim("no call of NCCL got stuck", not stuck, *stuck[:1])
