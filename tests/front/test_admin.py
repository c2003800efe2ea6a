import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pictures import REQUEST, STATUS, TRACE
from scripted_front import Script, account, serving
from splitweave.client import (
    AsyncClient,
    DeadlineExceeded,
    InvalidRequest,
    MoveKind,
    NotFound,
    Refused,
    RetryPolicy,
    Role,
    Unavailable,
)
from splitweave.cluster.core.status import ClusterStatus, RequestTrace
from splitweave.cluster.live.cli.app import app
from splitweave.cluster.live.front import admin, draining
from splitweave.proto import views
from splitweave.proto.cluster_events import AfterDrain, AtDeadline
from splitweave.proto.effects import AnswerAsk, DrainReport
from splitweave.proto.ids import Incarnation, WorkerId
from typer.testing import CliRunner


@dataclass
class ScriptedOperator:
    """Answers as told, and notes what was asked."""

    error: str = ""
    away: bool = False
    hangs: bool = False
    late: bool = False  # the error is that of a deadline
    back: bool = False  # workers are back, as a later life, once they are drained
    asked: list[Any] = field(default_factory=list)

    async def status(self) -> ClusterStatus:
        if self.away:
            raise ConnectionError("the controller is not there; try again in a second")
        if self.back and any(ask[0] == "drain" for ask in self.asked):
            return _reborn(STATUS)
        return STATUS

    async def trace(self, request_id: str) -> RequestTrace | None:
        return TRACE if request_id == "r1" else None

    async def metrics(self) -> str:
        return "splitweave_moves_total 3.0\n"

    async def drain(self, *ask: Any) -> AnswerAsk:
        return await self._answer("drain", *ask)

    async def migrate(self, *ask: Any) -> AnswerAsk:
        return await self._answer("migrate", *ask)

    async def set_role(self, *ask: Any) -> AnswerAsk:
        return await self._answer("set_role", *ask)

    async def _answer(self, *ask: Any) -> AnswerAsk:
        self.asked.append(ask)
        if self.hangs:
            await asyncio.Event().wait()
        report = None if self.error else account(REQUEST, 2).moves[0]
        drained = None
        if ask[0] == "drain" and (not self.error or self.late):
            drained = DrainReport(requests=3, left=0, moved=2, recomputed=1, transfer_bytes=2048)
        return AnswerAsk(ask_id="a", error=self.error, report=report, drained=drained)


def _reborn(status: ClusterStatus) -> ClusterStatus:
    workers = (
        replace(worker, incarnation=Incarnation(worker.incarnation + 1))
        for worker in status.workers
    )
    return replace(status, workers=tuple(workers))


async def call(operator: ScriptedOperator, method: str, *args: Any) -> Any:
    async with (
        serving(Script([]), operator) as front,
        AsyncClient(front.address, retry=RetryPolicy(tries_max=2, backoff_s=0.0)) as client,
    ):
        return await getattr(client, method)(*args)


async def test_status_tells_workers_requests_and_moves() -> None:
    status = await call(ScriptedOperator(), "status")
    assert (status.model, status.uptime_s) == ("scripted", 60.0)
    first = status.workers[0]
    assert (first.worker_id, first.role, first.state) == ("decode-0", Role.DECODE, "alive")
    assert (first.node, first.pid, first.request_ids) == ("node-a", 77, ("r1",))
    blocks = first.blocks
    parts = (blocks.free, blocks.held, blocks.cached, blocks.leased, blocks.quarantined)
    assert sum(parts) == blocks.total == 100
    assert (status.requests[0].state, status.requests[0].worker_id) == ("decode", "decode-0")
    assert (status.moves[0].kind, status.moves[0].why) == (MoveKind.MIGRATION, "operator")


async def test_drain_waits_and_tells_how_many_requests_left() -> None:
    operator = ScriptedOperator()
    assert await call(operator, "drain", "decode-0", 5.0) == 3
    assert operator.asked == [("drain", "decode-0", 5.0)]


async def test_a_drain_beyond_its_deadline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ANSWER_S", 0.05)
    with pytest.raises(DeadlineExceeded, match=r"decode-0 is not empty after 0\.05 s"):
        await call(ScriptedOperator(hangs=True), "drain", "decode-0", 0.05)


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("nan"), float("inf"), 1e6])
async def test_a_bad_drain_deadline_is_refused(deadline_s: float) -> None:
    with pytest.raises(InvalidRequest, match=r"deadline_s: is .*; above 0, at most 86400"):
        await call(ScriptedOperator(), "drain", "decode-0", deadline_s)


async def test_an_unknown_worker_is_not_found_and_the_known_are_named() -> None:
    for method, *args in (("drain", "w9"), ("set_role", "w9", "mixed")):
        with pytest.raises(NotFound, match="unknown worker 'w9'; there is decode-0, prefill-0"):
            await call(ScriptedOperator(), method, *args)


async def test_migrate_returns_the_move() -> None:
    operator = ScriptedOperator()
    move = await call(operator, "migrate", "r1", "decode-0")
    assert operator.asked == [("migrate", "r1", "decode-0")]
    assert (move.source, move.target, move.committed) == ("prefill-0", "decode-0", True)
    assert move.downtime_s == pytest.approx(0.003)


async def test_migrate_without_a_target_leaves_the_choice_to_the_policy() -> None:
    operator = ScriptedOperator()
    await call(operator, "migrate", "r1")
    assert operator.asked == [("migrate", "r1", None)]


async def test_set_role_returns_the_role_before() -> None:
    operator = ScriptedOperator()
    assert await call(operator, "set_role", "decode-0", "mixed") is Role.DECODE
    assert operator.asked == [("set_role", "decode-0", views.Role.MIXED)]


async def test_an_unknown_role_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="role: is 'boss'; one of prefill, decode, mixed"):
        await call(ScriptedOperator(), "set_role", "decode-0", "boss")


async def test_what_the_controller_does_not_know_is_not_found() -> None:
    with pytest.raises(NotFound, match="unknown request r9"):
        await call(ScriptedOperator(error="unknown request r9"), "migrate", "r9")


async def test_what_the_controller_refuses_is_refused_in_its_words() -> None:
    with pytest.raises(Refused, match="the last one able to decode"):
        await call(ScriptedOperator(error="the last one able to decode"), "drain", "decode-0")


async def test_an_absent_controller_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="the controller is not there"):
        await call(ScriptedOperator(away=True), "status")


async def invoke(operator: ScriptedOperator, *args: str) -> Any:
    async with serving(Script([]), operator) as front:
        address = ("--address", front.address)
        environment = {"COLUMNS": "200"}
        return await asyncio.to_thread(CliRunner().invoke, app, [*args, *address], env=environment)


async def test_the_status_command_draws_workers_requests_and_moves() -> None:
    result = await invoke(ScriptedOperator(), "status")
    assert result.exit_code == 0
    assert "scripted: 2 of 2 workers alive, 1 requests, 1 moves, up 60 s" in result.stdout
    for shown in ("decode-0", "prefill-0", "r1", "m1", "30/100", "operator"):
        assert shown in result.stdout


async def test_the_status_of_one_request_is_where_it_is_and_what_its_moves_cost() -> None:
    result = await invoke(ScriptedOperator(), "status", "--request", "r1", "--json")
    trace = json.loads(result.stdout)
    assert trace["request"]["worker_id"] == "decode-0"
    (move,) = trace["moves"]
    stages = move["reserve_s"] + move["copy_s"] + move["handover_s"]
    assert stages == pytest.approx(move["seconds"])
    assert (move["hidden_share"], move["bytes_per_s"]) == (0.5, 2e6)
    assert (move["copies"], move["repeats"]) == (4, 1)


async def test_the_status_of_one_request_is_drawn_with_its_stages() -> None:
    result = await invoke(ScriptedOperator(), "status", "--request", "r1")
    assert "r1: decode at decode-0, 5 prompt tokens, 4 output tokens" in result.stdout
    assert "moving now: migration decode-0 > prefill-0 (operator" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("handoff"))
    for shown in ("prefill-0", "committed", "50%", "1.0 ms", "2.0 ms", "3.0 ms", "6.0 ms"):
        assert shown in row
    assert "and 2 moves more" in result.stdout


async def test_the_counters_are_printed_as_they_are() -> None:
    result = await invoke(ScriptedOperator(), "status", "--metrics")
    assert result.stdout == "splitweave_moves_total 3.0\n"


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["status", "--request", "r9"], 4, "unknown request 'r9', or it ended long ago"),
        (["drain", "w9"], 4, "unknown worker 'w9'"),
        (["set-role", "w9", "mixed"], 4, "unknown worker 'w9'"),
        (["set-role", "decode-0", "boss"], 2, "boss"),
    ],
)
async def test_a_command_on_what_is_not_there_says_so(
    args: list[str], status: int, says: str
) -> None:
    result = await invoke(ScriptedOperator(), *args)
    assert result.exit_code == status
    assert says in result.stderr


async def test_operators_commands_say_what_was_done() -> None:
    drain = await invoke(ScriptedOperator(), "drain", "decode-0", "--deadline", "5")
    migrate = await invoke(ScriptedOperator(), "migrate", "r1", "--to", "decode-0")
    role = await invoke(ScriptedOperator(), "set-role", "decode-0", "mixed")
    end = "decode-0 is empty; 3 requests were there, 2 moved (2,048 bytes), 1 computed again\n"
    assert drain.stdout == end
    assert migrate.stdout.startswith("handoff prefill-0 -> decode-0: 1,000 bytes in 6.0 ms")
    assert role.stdout == "decode-0: decode -> mixed\n"


async def test_a_refused_drain_exits_5() -> None:
    result = await invoke(ScriptedOperator(error="it is the last one"), "drain", "decode-0")
    assert (result.exit_code, result.stderr) == (5, "error: it is the last one\n")


# ---- drains with a report


async def drained(operator: ScriptedOperator, **options: Any) -> list[Any]:
    """Every report of one drain."""
    async with (
        serving(Script([]), operator) as front,
        AsyncClient(front.address, retry=RetryPolicy(tries_max=1)) as client,
    ):
        return [progress async for progress in client.drain_workers(**options)]


async def test_a_pool_is_drained_at_once_and_its_workers_know_of_each_other() -> None:
    operator = ScriptedOperator()
    last = (await drained(operator, pool="p", deadline_s=5.0, recompute=True))[-1]
    assert [(worker.worker_id, worker.state) for worker in last.workers] == [
        ("decode-0", "empty"),
        ("prefill-0", "empty"),
    ]
    assert (last.workers[0].requests, last.workers[0].moved, last.workers[0].left) == (3, 2, 0)
    wishes = {ask[1]: ask[3] for ask in operator.asked}
    assert wishes["decode-0"].beside == ("prefill-0",)
    assert wishes["prefill-0"].at_deadline is AtDeadline.RECOMPUTE
    assert wishes["prefill-0"].then is AfterDrain.RETIRE


async def test_with_restart_one_leaves_when_the_one_before_is_back() -> None:
    operator = ScriptedOperator(back=True)
    reports = await drained(operator, all=True, restart=True)
    assert [worker.state for worker in reports[-1].workers] == ["restarted", "restarted"]
    assert ["restarting", "waiting"] in [
        [worker.state for worker in report.workers] for report in reports
    ] or ["restarted", "waiting"] in [
        [worker.state for worker in report.workers] for report in reports
    ]
    assert [ask[3].beside for ask in operator.asked] == [(), ()]
    assert [ask[3].then for ask in operator.asked] == [AfterDrain.RESTART] * 2


async def test_a_restart_stops_at_the_first_worker_that_may_not_leave() -> None:
    operator = ScriptedOperator(error="it is the last one")
    with pytest.raises(Refused, match="it is the last one"):
        await drained(operator, all=True, restart=True)
    assert len(operator.asked) == 1


async def test_a_drain_with_a_report_says_when_its_deadline_is_over() -> None:
    with pytest.raises(DeadlineExceeded, match="2 requests are left"):
        await drained(
            ScriptedOperator(error="2 requests are left", late=True), worker_id="decode-0"
        )


async def test_a_worker_that_does_not_come_back_ends_the_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draining, "RESTART_S", 0.05)
    with pytest.raises(Refused, match="decode-0 did not come back within"):
        await drained(ScriptedOperator(), worker_id="decode-0", restart=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"worker_id": "w9"}, "unknown worker 'w9'"),
        ({"pool": "x"}, "unknown pool 'x'"),
        ({"node": "far"}, "unknown node 'far'"),
    ],
)
async def test_draining_nothing_names_what_there_is(options: Any, said: str) -> None:
    with pytest.raises(NotFound, match=said) as caught:
        await drained(ScriptedOperator(), **options)
    assert "decode-0 (pool " in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"pool": "a", "node": "b"}, {"all": False}])
async def test_a_drain_must_mean_something(options: Any) -> None:
    with pytest.raises(InvalidRequest, match="give one of worker_id, node, pool, all"):
        await drained(ScriptedOperator(), **options)


async def test_an_unknown_way_to_drain_is_named() -> None:
    with pytest.raises(TypeError, match="unknown option 'gently'"):
        await drained(ScriptedOperator(), gently=True)


@pytest.mark.parametrize("args", [[], ["w", "--all"], ["--node", "n", "--pool", "p"]])
async def test_the_command_says_what_it_needs(args: list[str]) -> None:
    result = await invoke(ScriptedOperator(), "drain", *args)
    assert result.exit_code == 2
    assert "give a WORKER, or one of --node, --pool and --all" in result.stderr


async def test_a_worker_that_starts_shows_as_starting() -> None:
    starting = ScriptedOperator()
    starting.status = lambda: _soon(replace(STATUS, starting=(WorkerId("late-0"),)))  # type: ignore[method-assign]
    status = await call(starting, "status")
    assert [(w.worker_id, w.state) for w in status.workers][-1] == ("late-0", "starting")


async def _soon(status: ClusterStatus) -> ClusterStatus:
    return status
