"""Whole moves between two cores as text: a change of the protocol is a change of these."""

from typing import Any

from fleet import Fleet
from parts import MS, Network, key_of
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.views import Role
from splitweave.proto.worker_events import RoleAssigned


def transcript(fleet: Fleet) -> str:
    return "\n".join(fleet.transcript)


def expect(fleet: Fleet, text: str) -> None:
    lines = [line.strip() for line in text.strip().splitlines()]
    assert [line.strip() for line in fleet.transcript] == lines


def quiet(fleet: Fleet) -> Fleet:
    """Lets all streams end and all timers pass; everything must be true and empty."""
    fleet.run_until_done()
    fleet.run(2000 * MS)
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    fleet.assert_empty()
    return fleet


def started(names: str = "ab", **more: Any) -> Fleet:
    fleet = Fleet(names, **more)
    fleet.run(10 * MS)
    return fleet


def test_a_handoff_copies_while_prefill_computes() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(50)), 20, handoff="b")
    quiet(fleet)
    expect(
        fleet,
        """
          10.00 a -> b: LeaseAsked(blocks=13)
          10.10 b -> a: LeaseOpened(blocks=13, present=0)
          11.00 a: copy m1/1.0 layers 0-4 4 blocks
          11.40 a (iteration): copy m1/1.1 layers 0-2 4 blocks
          11.80 a (iteration): copy m1/1.2 layers 2-4 4 blocks
          12.40 a (iteration): copy m1/1.3 layers 0-2 4 blocks
          12.80 a (iteration): copy m1/1.4 layers 2-4 4 blocks
          13.40 a (iteration): copy m1/1.5 layers 0-2 1 blocks
          13.80 a (iteration): copy m1/1.6 layers 2-4 1 blocks
          14.00 a -> b: HandoverOffered(emitted=1, computed=50, copies=7)
          14.30 b -> a: MoveCommitted(epoch=0.1)
        """,
    )
    (report,) = fleet.reports
    assert (report.transfer_bytes, report.hidden_bytes) == (1300, 1250)


def test_a_migration_stops_the_source_for_the_last_blocks_only() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(50)), 60)
    fleet.run(10 * MS)
    fleet.migrate("r", "a", "b")
    quiet(fleet)
    expect(
        fleet,
        """
          20.00 a -> b: LeaseAsked(blocks=15)
          20.10 b -> a: LeaseOpened(blocks=15, present=0)
          20.20 a: copy m1/1.0 layers 0-4 4 blocks
          20.20 a: copy m1/1.1 layers 0-4 4 blocks
          20.20 a: copy m1/1.2 layers 0-4 4 blocks
          20.20 a: copy m1/1.3 layers 0-4 2 blocks
          21.00 a: copy m1/1.4 layers 0-4 1 blocks
          21.00 a -> b: HandoverOffered(emitted=8, computed=57, copies=5)
          21.50 b -> a: MoveCommitted(epoch=0.1)
        """,
    )


def test_what_the_target_has_cached_does_not_travel() -> None:
    fleet = started()
    fleet.ask("b", "q", list(range(48)), 1)
    fleet.run(20 * MS)
    fleet.ask("a", "r", list(range(50)), 20)
    fleet.run(10 * MS)
    fleet.migrate("r", "a", "b")
    quiet(fleet)
    assert "LeaseOpened(blocks=15, present=12)" in transcript(fleet)
    assert fleet.reports[0].blocks == 3


def test_a_refused_handoff_leaves_the_request_where_it_is() -> None:
    fleet = started()
    fleet.post(key_of("b"), RoleAssigned(role=Role.DECODE, draining=True))
    fleet.ask("a", "r", list(range(50)), 20, handoff="b")
    quiet(fleet)
    expect(
        fleet,
        """
          10.00 a -> b: LeaseAsked(blocks=13)
          10.10 b -> a: LeaseRefused(reason='draining')
          10.20 a -> b: MoveAborted(reason='draining')
          10.20 a -> b: AbortAcked()
          10.30 b -> a: AbortAcked()
        """,
    )


def test_a_handoff_without_room_is_pulled_when_there_is_some() -> None:
    """The source decodes on meanwhile: its lease is raised once."""
    fleet = started(blocks=20)
    fleet.ask("b", "q", list(range(900, 950)), 20)
    fleet.run(2 * MS)
    fleet.ask("a", "r", list(range(50)), 24, handoff="b")
    quiet(fleet)
    expect(
        fleet,
        """
          12.00 a -> b: LeaseAsked(blocks=13)
          12.10 b -> a: LeaseRefused(reason='13 blocks are not available')
          33.00 b -> a: LeaseOpened(blocks=13, present=0)
          33.10 a -> b: LeaseAsked(blocks=18)
          33.10 a: copy m1/1.0 layers 0-4 4 blocks
          33.10 a: copy m1/1.1 layers 0-4 4 blocks
          33.10 a: copy m1/1.2 layers 0-4 4 blocks
          33.10 a: copy m1/1.3 layers 0-4 1 blocks
          33.20 b -> a: LeaseOpened(blocks=18, present=0)
          33.30 a: copy m1/1.4 layers 0-4 3 blocks
          34.00 a: copy m1/1.5 layers 0-4 1 blocks
          34.00 a -> b: HandoverOffered(emitted=19, computed=68, copies=6)
          34.50 b -> a: MoveCommitted(epoch=0.1)
        """,
    )


def test_a_slow_link_aborts_the_move_and_not_the_stream() -> None:
    fleet = started(network=Network(copy_ns=3000 * MS))
    fleet.ask("a", "r", list(range(20)), 40)
    fleet.run(5 * MS)
    fleet.migrate("r", "a", "b")
    fleet.run_until_done()
    assert fleet.reports[0].reason == "finished"
    fleet.run(8000 * MS)
    fleet.assert_empty()
    words = [line.split(": ")[1].split("(")[0] for line in fleet.transcript]
    assert words[2].startswith("copy")
    assert words[-1] == "AbortAcked"


def test_a_lost_commit_is_said_again() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(20)), 60)
    fleet.run(5 * MS)
    fleet.migrate("r", "a", "b")
    fleet.run(until=lambda: any("HandoverOffered" in line for line in fleet.transcript))
    fleet.run(200_000)
    fleet.network.lost = 1.0
    fleet.run(1 * MS)
    fleet.network.lost = 0.0
    quiet(fleet)
    commits = [line for line in fleet.transcript if "MoveCommitted" in line]
    assert len(commits) == 2
    assert fleet.reports[0].outcome is Stage.COMMITTED


def test_a_commit_heard_too_late_still_counts() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(20)), 4000 // 50)
    fleet.run(5 * MS)
    fleet.migrate("r", "a", "b")
    fleet.run(until=lambda: any("HandoverOffered" in line for line in fleet.transcript))
    fleet.run(200_000)
    fleet.network.lost = 1.0
    fleet.iteration_ns = 100 * MS
    fleet.run(2200 * MS)
    assert fleet.holder("r") == ["a", "b"]
    fleet.network.lost = 0.0
    fleet.run(300 * MS)
    assert fleet.holder("r") == ["b"]
    assert fleet.reports[0].outcome is Stage.COMMITTED
    quiet(fleet)


def test_a_request_moves_around_and_stays_true() -> None:
    fleet = started("abc")
    fleet.ask("a", "r", list(range(30)), 70, handoff="b")
    hops = [("b", "c"), ("c", "a"), ("a", "b")]
    for source, target in hops:
        fleet.run(until=lambda source=source: fleet.holder("r") == [source])
        fleet.run(3 * MS)
        fleet.migrate("r", source, target)
    quiet(fleet)
    assert [report.outcome for report in fleet.reports] == [Stage.COMMITTED] * 4
    assert fleet.reports[-1].epoch.hop == 4


def test_two_workers_exchange_requests_at_the_same_time() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(30)), 40)
    fleet.ask("b", "s", list(range(100, 140)), 40)
    fleet.run(8 * MS)
    fleet.migrate("r", "a", "b")
    fleet.migrate("s", "b", "a")
    fleet.run(until=lambda: len(fleet.reports) == 2)
    assert (fleet.holder("r"), fleet.holder("s")) == (["b"], ["a"])
    quiet(fleet)


def test_the_source_decodes_on_while_its_blocks_travel() -> None:
    fleet = started(network=Network(copy_ns=10 * MS))
    stream = fleet.ask("a", "r", list(range(30)), 70)
    fleet.run(8 * MS)
    before = len(stream.tokens)
    fleet.migrate("r", "a", "b")
    fleet.run(10 * MS)
    assert len(stream.tokens) >= before + 9
    quiet(fleet)


def test_wall_time_is_the_sum_of_its_stages() -> None:
    fleet = started()
    fleet.ask("a", "r", list(range(50)), 60)
    fleet.run(10 * MS)
    begun_ns = fleet.now_ns
    fleet.migrate("r", "a", "b")
    fleet.run(until=lambda: bool(fleet.reports))
    (report,) = fleet.reports
    total_ns = report.reserve_ns + report.copy_ns + report.handover_ns
    assert total_ns == fleet.now_ns - begun_ns
    assert report.kind is MoveKind.MIGRATION
    assert report.transfer_bytes == report.blocks * 100
