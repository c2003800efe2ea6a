import pytest
from parts import LIMITS, key_of
from solo import Solo
from splitweave.proto.cluster_events import WorkerRegistered, WorkerViewed
from splitweave.proto.effects import ClearTimer, EndProcess, EndReason
from splitweave.proto.timers import TimerKey
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    PeerLost,
    RoleAssigned,
    StreamAcked,
    TransportStuck,
    ViewAsked,
    WorkerStarted,
)

ASSIGNED = RoleAssigned(role=Role.DECODE, draining=False)


def registered() -> Solo:
    solo = Solo()
    solo.step(WorkerStarted())
    solo.step(ASSIGNED)
    return solo


def test_a_started_worker_registers() -> None:
    solo = Solo()
    solo.step(WorkerStarted())
    told = solo.sent(WorkerRegistered)
    assert [event.info for event in told] == [solo.core.info]
    assert told[0].number == 0
    assert solo.timer("register") == solo.now_ns + LIMITS.register_retry_ns


def test_registration_is_repeated_until_it_is_answered() -> None:
    solo = Solo()
    solo.step(WorkerStarted())
    for _ in range(3):
        solo.fire("register")
        assert len(solo.sent(WorkerRegistered)) == 1
        assert solo.timer("register") is not None
    solo.step(ASSIGNED)
    assert solo.ordered(ClearTimer) == [ClearTimer(TimerKey("register"))]
    assert solo.fire("register") == []


def test_there_is_no_heartbeat_before_the_first_answer() -> None:
    solo = Solo()
    solo.step(WorkerStarted())
    assert solo.timer("heartbeat") is None
    solo.step(ASSIGNED)
    assert solo.timer("heartbeat") == solo.now_ns + LIMITS.heartbeat_ns


def test_heartbeats_are_numbered_and_dated() -> None:
    solo = registered()
    numbers = []
    for _ in range(3):
        solo.fire("heartbeat")
        beat = solo.sent(WorkerViewed)[0]
        assert beat.view.observed_at_ns == solo.now_ns
        assert solo.timer("heartbeat") == solo.now_ns + LIMITS.heartbeat_ns
        numbers.append(beat.number)
    assert numbers == [1, 2, 3]


def test_workers_with_different_seeds_do_not_beat_together() -> None:
    offsets = []
    for seed in range(8):
        solo = Solo(seed=seed)
        solo.step(ASSIGNED)
        offset_ns = solo.timer("heartbeat") - solo.now_ns
        assert 0 < offset_ns <= LIMITS.heartbeat_ns
        offsets.append(offset_ns)
    assert len(set(offsets)) == 8


def test_an_answer_again_starts_no_second_heartbeat() -> None:
    solo = registered()
    assert solo.step(ASSIGNED) == []


def test_role_and_draining_show_in_the_view() -> None:
    solo = registered()
    solo.step(RoleAssigned(role=Role.PREFILL, draining=True))
    assert (solo.view.role, solo.view.draining) == (Role.PREFILL, True)


def test_a_view_asked_registers_with_all_that_is_held() -> None:
    solo = registered()
    solo.assign("r", range(8), max_tokens=3)
    solo.iterate(2)
    solo.fire("heartbeat")
    solo.step(ViewAsked())
    told = solo.sent(WorkerRegistered)[0]
    assert [held.request_id for held in told.view.requests] == ["r"]
    assert len(told.cached) == 2
    assert told.number == 1


def test_heartbeats_go_on_while_a_later_registration_waits_for_its_answer() -> None:
    solo = registered()
    solo.step(ViewAsked())
    solo.fire("heartbeat")
    assert len(solo.sent(WorkerViewed)) == 1
    solo.fire("register")
    assert len(solo.sent(WorkerRegistered)) == 1


def test_changes_count_from_the_registration() -> None:
    solo = registered()
    solo.assign("r", range(8), max_tokens=1)
    solo.iterate()
    solo.step(ViewAsked())
    solo.fire("heartbeat")
    beat = solo.sent(WorkerViewed)[0]
    assert (beat.cached, beat.evicted) == ((), ())


def test_the_view_counts_requests_by_where_they_stand() -> None:
    solo = Solo()
    solo.assign("r", 4, 2)
    solo.assign("s", 4, 9)
    assert (solo.view.running, solo.view.waiting) == (1, 1)
    solo.iterate(2)
    assert (solo.view.running, solo.view.waiting) == (1, 0)
    assert {str(h.request_id): str(h.phase) for h in solo.view.requests} == {
        "r": "finished",
        "s": "decode",
    }
    solo.step(StreamAcked(request_id="r"))
    assert [held.request_id for held in solo.view.requests] == ["s"]


def test_the_view_has_the_measured_speed() -> None:
    solo = Solo()
    before = solo.view.speed
    solo.assign("r", 4)
    solo.iterate(3)
    assert solo.view.speed != before


def test_unknown_timers_are_ignored() -> None:
    assert Solo().fire("nonsense", "r") == []


@pytest.mark.parametrize("later", [0, 1])
def test_a_worker_that_hears_of_its_own_death_ends_its_process(later: int) -> None:
    """Or of the death of its next life: then it was given up before that one began."""
    solo = registered()
    own = solo.core.info.key
    lost = PeerLost(key=key_of(own.worker_id, own.incarnation + later))
    assert solo.step(lost) == [EndProcess(why=EndReason.FENCED)]


def test_a_worker_whose_transport_is_stuck_ends_its_process() -> None:
    """No call of this process gets rid of it, and the next life has a GPU to itself."""
    reason = "abort of a>b did not return"
    effects = registered().step(TransportStuck(reason=reason))
    assert effects == [EndProcess(why=EndReason.STUCK, detail=reason)]


def test_the_death_of_an_earlier_life_is_no_reason_to_end() -> None:
    solo = registered()
    own = solo.core.info.key
    assert solo.step(PeerLost(key=key_of(own.worker_id, own.incarnation - 1))) == []


def test_a_registration_tells_whom_the_worker_knows_to_be_dead() -> None:
    solo = registered()
    solo.step(PeerLost(key=key_of("w9", 4)))
    solo.step(PeerLost(key=key_of("w9", 3)))
    solo.step(ViewAsked())
    assert solo.sent(WorkerRegistered)[0].lost == (key_of("w9", 4),)


def test_a_worker_whose_engine_hangs_ends_its_process() -> None:
    """Its heartbeats come from another thread: they would say for ever that all is well."""
    solo = registered()
    solo.assign("r", range(8))
    limit_ns = solo.core.limits.iteration_ns_max
    solo.fire("heartbeat", after_ns=limit_ns - 2000)
    assert len(solo.sent(WorkerViewed)) == 1
    assert solo.fire("heartbeat", after_ns=3000) == [EndProcess(why=EndReason.HUNG)]
