"""Each rule breaks on a doctored step or world, and says where."""

from dataclasses import replace
from typing import Any

import pytest
from control_plane import order_of, report_of
from sim_worlds import batch, chunk, key, scenario, world_of
from splitweave.proto.cluster_events import WorkerRegistered, WorkerViewed
from splitweave.proto.effects import (
    DeliverTokens,
    EndProcess,
    EndReason,
    FailStream,
    OpenLease,
    RunIteration,
    ToController,
    ToGateway,
    ToWorker,
)
from splitweave.proto.gateway_events import GenerateAsked, RejectCode
from splitweave.proto.ids import BlockId, GatewayId, MoveId, RequestId, WorkerId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.requests import SampledToken
from splitweave.proto.timers import SetTimer, TimerFired, TimerKey
from splitweave.proto.worker_events import LeaseOpened, RequestAssigned
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.inbound import Inbound
from splitweave.sim.invariants import Watched, check_report, check_step, check_view
from splitweave.sim.leftovers import leftovers
from splitweave.sim.run import Run, arrivals_of
from splitweave.sim.streams import TrueStream
from splitweave.sim.world import World

S = 1_000_000_000
EVENT = TimerFired(TimerKey("k"))
DECODE = WorkerId("decode-0")
ORDER = RunIteration(batch=batch(chunk((1,), 0, (0,))))


@pytest.fixture(name="quiet")
def _quiet() -> tuple[World, Run]:
    """A world in which all has ended, with its clock some seconds on."""
    world, run, queue = world_of(scenario(checked=True))
    queue.run_until(40 * S)
    run.judge_end()
    assert leftovers(world) == []
    return world, run


class _Core:
    """A core whose own check says `problem`."""

    def __init__(self, problem: str = "") -> None:
        self._problem = problem

    def check(self) -> None:
        assert not self._problem, self._problem


def _check(*effects: Any, core: Any = None, inbound: Inbound | None = None) -> None:
    check_step(Watched("w#1", core or _Core(), inbound), 7, EVENT, effects)


def test_a_cores_own_complaint_is_told_with_the_step_that_caused_it() -> None:
    with pytest.raises(InvariantBroken, match=r"w#1 at 7 after TimerFired.*: 3 blocks lost"):
        _check(core=_Core("3 blocks lost"))


def test_one_iteration_may_start_in_a_step_and_never_two() -> None:
    _check(ORDER, SetTimer(TimerKey("k"), 9))
    with pytest.raises(InvariantBroken, match="w#1 at 7: two iterations at once"):
        _check(ORDER, ORDER)


def test_a_view_is_checked_wherever_it_is_sent(quiet: tuple[World, Run]) -> None:
    party = quiet[0].mail.workers[DECODE]
    view = party.core.view(0)
    for wrong in (
        replace(view, blocks_leased=view.blocks_leased + 1),
        replace(view, blocks_quarantined=view.blocks_quarantined + 1),
        replace(view, blocks_held=view.blocks_held + 1),
        replace(view, blocks_cached=view.blocks_cached - 1),
        replace(view, blocks_free=view.blocks_free + 2, blocks_held=view.blocks_held - 2),
    ):
        with pytest.raises(InvariantBroken, match=r"decode-0#1: free \+ held \+ cached"):
            check_view(wrong)
        with pytest.raises(InvariantBroken, match=r"total is 400"):
            _check(ToController(WorkerViewed(view=wrong, number=1, cached=(), evicted=())))
        with pytest.raises(InvariantBroken, match=r"total is 400"):
            _check(ToController(WorkerRegistered(info=party.info, view=wrong, cached=())))
    _check(ToController(WorkerViewed(view=view, number=1, cached=(), evicted=())))


def test_a_lease_is_checked_against_the_running_iteration(quiet: tuple[World, Run]) -> None:
    inbound = quiet[0].mail.workers[DECODE].engine.inbound
    inbound.begin_writes(batch(chunk((1,), 0, (4,))), set())
    lease = LeaseOpened(
        move_id=MoveId("m"), lease=1, target=key("b"), blocks=(BlockId(4),), present=0
    )
    answer = ToWorker(key("a"), lease)
    with pytest.raises(InvariantBroken, match="block 4 is lent"):
        _check(answer, inbound=inbound)
    _check(answer)  # of another core it is no business


def _request(run: Run, name: str) -> Any:
    arrival = next(iter(arrivals_of(run.world.scenario)))
    given = run.world._prompts.request(0, arrival, GatewayId("gateway.0"))
    return replace(
        given,
        request_id=RequestId(name),
        max_tokens=400,
        token_ids=given.token_ids[::-1],
        block_hashes=(),
    )


def test_a_request_nobody_waits_for_is_left_over_with_its_blocks(quiet: tuple[World, Run]) -> None:
    world, run = quiet
    request = _request(run, "stray")
    world.clients.truth = lambda _: TrueStream(request)  # type: ignore[method-assign]
    world.mail.workers[DECODE].shell.post(RequestAssigned(request=request))
    found = "; ".join(leftovers(world))
    assert "worker decode-0#1: requests ['stray']" in found
    assert "blocks held 3" in found
    assert "backlog tokens 40" in found


def test_an_open_lease_is_left_over(quiet: tuple[World, Run]) -> None:
    world, _ = quiet
    world.mail.workers[DECODE].engine.open_lease(OpenLease(move_id=MoveId("m"), lease=1))
    assert leftovers(world) == ["worker decode-0#1: leases open 1"]


def test_a_timer_about_something_is_left_over_and_a_beat_is_not(quiet: tuple[World, Run]) -> None:
    world, _ = quiet
    shell: Any = world.mail.workers[DECODE].shell
    assert shell.timers  # the heartbeat
    shell._set(TimerKey("resend", "r9"), world.scheduler.now_ns + 5)
    assert leftovers(world) == ["worker decode-0#1: timers ['resend r9']"]


def test_a_stream_at_a_gateway_or_controller_is_left_over(quiet: tuple[World, Run]) -> None:
    world, run = quiet
    gateway = world.mail.gateways[GatewayId("gateway.0")]
    request = _request(run, "stray")
    world.clients.truth = lambda _: TrueStream(request)  # type: ignore[method-assign]
    gateway.shell.post(GenerateAsked(request=request))
    found = leftovers(world)
    assert "gateway.0: streams 1" in found
    assert any(line.startswith("gateway.0: timers [") for line in found)
    queue: Any = world.scheduler
    queue.run_until(queue.now_ns + S // 1000)
    assert any(line.startswith("controller: requests ['stray (") for line in leftovers(world))


def test_a_run_is_judged_by_every_stream(quiet: tuple[World, Run]) -> None:
    world, run = quiet
    stream = world.clients.streams[RequestId("r3")]
    stream.error = stream.finish = None
    with pytest.raises(InvariantBroken, match=r"1 streams did not end within 60 s: r3 \(9 tokens"):
        run.judge_end()


def test_a_run_is_judged_by_every_stream_that_failed_after_a_token(
    quiet: tuple[World, Run],
) -> None:
    world, run = quiet
    request, clients = _request(run, "stray"), world.clients
    clients.ask(request, 0)
    right = (SampledToken(token_id=TrueStream(request).output(0)),)
    first = DeliverTokens(
        request_id=request.request_id, first_index=0, tokens=right, worker=key("decode-0")
    )
    clients.deliver(first, 1)
    failed = FailStream(
        request_id=request.request_id, code=RejectCode.RESOURCE_EXHAUSTED, message="no"
    )
    clients.fail(failed)
    run._feed.asked += 1
    with pytest.raises(InvariantBroken, match="stray failed after 1 tokens: RESOURCE_EXHAUSTED no"):
        run.judge_end()


def test_effects_for_others_are_no_ones_rule() -> None:
    _check(ToGateway(GatewayId("g"), GenerateAsked(request=None)))  # type: ignore[arg-type]


def test_an_account_of_a_move_that_does_not_add_up_breaks() -> None:
    order = order_of("r", "a", "b", MoveKind.MIGRATION)
    whole = report_of(order, blocks=7, transfer_bytes=700, hidden_bytes=70)
    check_report(whole, 100)
    check_report(replace(whole, outcome=Stage.ABORTED, transfer_bytes=300), 100)
    for wrong, says in (
        (replace(whole, transfer_bytes=699), "699 bytes sent, 7 blocks of 100 ordered"),
        (replace(whole, outcome=Stage.ABORTED, transfer_bytes=701), "701 bytes sent"),
        (replace(whole, hidden_bytes=701), "701 bytes hidden"),
        (replace(whole, ended_ns=whole.ended_ns + 1), "stages take 10000000 ns, it 10000001 ns"),
    ):
        with pytest.raises(InvariantBroken, match=says):
            check_report(wrong, 100)


def test_a_worker_that_ends_itself_over_its_own_books_breaks_a_rule_checked_or_not() -> None:
    """Whereas a fenced one that ends does what it should."""
    world, _, queue = world_of(scenario(), checked=False)
    queue.run_until(40 * S)
    world.mail.workers[DECODE].core._blocks._fresh += 1
    with pytest.raises(InvariantBroken, match=r"worker decode-0#1 at \d+: integrity: .*, total "):
        queue.run_until(60 * S)
    world.mail.workers[DECODE].perform(EndProcess(why=EndReason.FENCED))
    assert DECODE not in world.mail.workers
