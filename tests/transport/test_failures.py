"""What dies, freezes, lies or stays away: every copy ends once, soon, and the next one works."""

import signal
import time
from dataclasses import replace
from typing import Any

import pytest
from kv_mesh import LIMITS, MIB, Mesh, Worker, ids
from splitweave.workers.live.transport import ParcelHeader, TransportLimits

# What a failure may take beyond its limit, on a busy machine: half of what patience would be.
SLACK_S = LIMITS.copy_timeout_s / 2
HASTY_S = 3.0
HASTY_TO_OPEN = replace(LIMITS, open_timeout_s=HASTY_S)
HASTY_TO_COPY = replace(LIMITS, copy_timeout_s=HASTY_S)


def works(source: Worker, target: Worker, copy_id: str) -> bool:
    source.send(target, copy_id, 2 * MIB)
    return target.landed_equal(copy_id, 2 * MIB) and source.sent(copy_id).ok


def paired(
    mesh: Mesh, limits_a: TransportLimits = LIMITS, limits_b: TransportLimits = LIMITS
) -> tuple[Worker, Worker]:
    """Two workers with an open pair a -> b."""
    a, b = mesh.start("a", limits=limits_a), mesh.start("b", limits=limits_b)
    assert works(a, b, "first")
    return a, b


def forged(source: Worker, copy_id: str) -> ParcelHeader:
    """The header of a copy whose bytes never come."""
    header = source.header("first")
    return renamed(replace(header, sequence=header.sequence + 1, first_number=1), copy_id)


def renamed(header: ParcelHeader, copy_id: str, **changed: Any) -> ParcelHeader:
    (copy,) = header.copies
    return replace(header, copies=(replace(copy, copy_id=copy_id, **changed),))


def test_a_killed_target_fails_the_copies_under_way_and_its_next_life_is_paired_with(
    mesh: Mesh,
) -> None:
    a, b = paired(mesh)
    b.peer.signal(signal.SIGSTOP)  # so that the copies are surely under way
    names = [f"x{number}" for number in range(4)]
    for name in names:
        a.send(b, name, 64 * MIB)
    a.header("x0")
    b.peer.signal(signal.SIGKILL)
    killed_at = time.monotonic()
    assert not any(a.sent(name).ok for name in names)
    assert time.monotonic() - killed_at < SLACK_S
    assert a.ends("sent") == []
    assert works(a, mesh.start("b", incarnation=2), "again")


def test_a_killed_source_fails_what_it_announced_and_its_next_life_is_paired_with(
    mesh: Mesh,
) -> None:
    a, b = paired(mesh)
    b.receive(forged(a, "x"))
    a.peer.signal(signal.SIGKILL)
    assert not b.landed("x", SLACK_S).ok
    assert works(mesh.start("a", incarnation=2), b, "again")


def test_a_frozen_target_fails_copies_at_the_copy_timeout_and_pairs_anew_when_it_thaws(
    mesh: Mesh,
) -> None:
    a, b = paired(mesh, limits_a=HASTY_TO_COPY)
    b.peer.signal(signal.SIGSTOP)
    a.send(b, "x", 64 * MIB)
    result = a.sent("x")
    assert not result.ok
    assert HASTY_S <= result.seconds < HASTY_S + SLACK_S
    b.peer.signal(signal.SIGCONT)
    assert not b.landed("x").ok
    assert works(a, b, "again")
    assert a.header("again").pairing == 2


def test_a_frozen_source_fails_copies_at_the_copy_timeout(mesh: Mesh) -> None:
    a, b = paired(mesh, limits_b=HASTY_TO_COPY)
    a.peer.signal(signal.SIGSTOP)
    b.receive(forged(a, "x"))
    result = b.landed("x")
    assert not result.ok
    assert HASTY_S <= result.seconds < HASTY_S + SLACK_S
    a.peer.signal(signal.SIGCONT)


def test_a_source_that_never_comes_is_given_up_on(mesh: Mesh) -> None:
    a, b = paired(mesh, limits_b=HASTY_TO_OPEN)
    b.receive(renamed(replace(a.header("first"), pairing=7, pair_nonce="never"), "x"))
    assert not b.landed("x", HASTY_S + SLACK_S).ok


def test_a_target_that_never_hears_of_the_pair_is_given_up_on(mesh: Mesh) -> None:
    a, b = mesh.start("a", limits=HASTY_TO_OPEN), mesh.start("b")
    carry = mesh.rpc
    mesh.hold_headers()
    a.send(b, "x")
    assert not a.sent("x", HASTY_S + SLACK_S).ok
    mesh.rpc = carry
    assert works(a, b, "again")


def test_a_target_that_is_gone_for_good_is_given_up_on(mesh: Mesh) -> None:
    a, b = mesh.start("a", limits=HASTY_TO_OPEN), mesh.start("b")
    b.peer.signal(signal.SIGKILL)
    b.peer.process.wait()
    a.send(b, "x")
    assert not a.sent("x", 2 * HASTY_S + SLACK_S).ok


@pytest.mark.parametrize("at", [0, MIB, 1_999_999, 2_000_000, 2_000_015])
def test_a_bit_that_flips_on_the_wire_fails_that_copy_only(mesh: Mesh, at: int) -> None:
    """In the payload, or in the checksum or the number of its marker."""
    a, b = paired(mesh)
    a.peer.order("flip", at)
    a.send(b, "x", 2_000_000)
    result = b.landed("x")
    assert result.error is not None
    assert "marker" in result.error
    assert works(a, b, "again")
    assert a.header("again").pairing == 1


def test_swapped_headers_are_put_in_order(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    mesh.hold_headers()
    sizes = {"x": 100, "y": 3 * MIB, "z": 5}
    for name, size in sizes.items():
        a.send(b, name, size)
    a.census()  # all three are queued behind the pairing now
    for name in "xzy":
        b.receive(a.header(name))
    assert all(b.landed_equal(name, size) for name, size in sizes.items())


def test_a_doubled_header_is_refused_and_the_first_lands(mesh: Mesh) -> None:
    a, b = paired(mesh)
    mesh.hold_headers()
    a.send(b, "x", 3 * MIB)
    header = a.header("x")
    b.receive(header)
    b.receive(renamed(header, "doubled"))
    assert b.landed_equal("x", 3 * MIB)
    assert not b.landed("doubled").ok
    assert b.ends("landed") == []


def test_a_lost_header_fails_the_pair_on_both_sides_and_the_next_copy_pairs_anew(
    mesh: Mesh,
) -> None:
    a, b = paired(mesh, HASTY_TO_COPY, HASTY_TO_COPY)
    carry = mesh.rpc
    mesh.rpc = lambda target, header: None if ids(header) == ["lost"] else carry(target, header)
    a.send(b, "lost", 64 * MIB)
    a.send(b, "behind", 2 * MIB)
    assert not a.sent("lost").ok
    assert not a.sent("behind").ok
    assert works(a, b, "again")
    assert a.header("again").pairing == 2


def test_a_late_header_of_a_dead_pair_is_refused_and_harms_no_other(mesh: Mesh) -> None:
    a, b = paired(mesh)
    late = forged(a, "late")
    a.peer.order("close_pair", b.key)
    b.peer.order("close_pair", a.key)
    assert works(a, b, "again")
    b.receive(late)
    assert not b.landed("late", SLACK_S).ok
    assert works(a, b, "still")
    assert a.header("still").pairing == 2


@pytest.mark.parametrize("closer", ["a", "b"])
def test_closing_amid_copies_ends_each_of_them_once(mesh: Mesh, closer: str) -> None:
    a, b = paired(mesh)
    mesh.hold_headers()
    names = [f"x{number}" for number in range(20)]
    for name in names:
        a.send(b, name, 4 * MIB)
    b.receive(a.header("x0"))  # it lands; the others wait for headers
    assert b.landed_equal("x0", 4 * MIB)
    assert a.sent("x0").ok
    started_at = time.monotonic()
    worker = a if closer == "a" else b
    worker.close()
    assert time.monotonic() - started_at < SLACK_S
    results = [a.sent(name, SLACK_S) for name in names[1:]]
    assert not any(result.ok for result in results)
    assert a.ends("sent") == []


def test_a_header_beyond_the_limits_costs_the_pair_and_not_the_process(mesh: Mesh) -> None:
    a, b = paired(mesh)
    carry = mesh.rpc
    mesh.rpc = lambda target, header: carry(target, renamed(header, "x", transfer_bytes=1 << 50))
    a.send(b, "x", 3 * MIB)
    error = b.landed("x").error
    assert error is not None
    assert "copy_bytes_max" in error
    assert not a.sent("x").ok
    mesh.rpc = carry
    assert works(a, b, "again")


@pytest.mark.parametrize("cutter", ["a", "b"])
def test_a_cut_pair_fails_what_it_carries_on_both_sides_and_the_next_copy_pairs_anew(
    mesh: Mesh, cutter: str
) -> None:
    a, b = paired(mesh)
    mesh.hold_headers()
    a.send(b, "x", 64 * MIB)
    b.receive(a.header("x"))
    worker, other = (a, b) if cutter == "a" else (b, a)
    worker.peer.order("cut", other.key.worker_id)
    assert worker.peer.wait(lambda words: words[0] == "cut")[1] == 1
    ends = [a.sent("x", SLACK_S), b.landed("x", SLACK_S)]
    assert not all(end.ok for end in ends)
    mesh.rpc = Worker.receive
    assert works(a, b, "again")
    worker.peer.order("cut", "nobody")
    assert worker.peer.wait(lambda words: words[0] == "cut")[1] == 0
