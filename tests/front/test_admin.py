import asyncio
import json
from dataclasses import dataclass, field
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
from splitweave.proto import views
from splitweave.proto.effects import AnswerAsk
from typer.testing import CliRunner


@dataclass
class ScriptedOperator:
    """Answers as told, and notes what was asked."""

    error: str = ""
    away: bool = False
    hangs: bool = False
    asked: list[Any] = field(default_factory=list)

    async def status(self) -> ClusterStatus:
        if self.away:
            raise ConnectionError("the controller is not there; try again in a second")
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
        return AnswerAsk(ask_id="a", error=self.error, report=report)


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
    assert await call(operator, "drain", "decode-0", 5.0) == 1
    assert operator.asked == [("drain", "decode-0", 5.0)]


async def test_a_drain_beyond_its_deadline_says_so() -> None:
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
    assert drain.stdout == "decode-0 is empty; 1 requests left it\n"
    assert migrate.stdout.startswith("handoff prefill-0 -> decode-0: 1,000 bytes in 6.0 ms")
    assert role.stdout == "decode-0: decode -> mixed\n"


async def test_a_refused_drain_exits_5() -> None:
    result = await invoke(ScriptedOperator(error="it is the last one"), "drain", "decode-0")
    assert (result.exit_code, result.stderr) == (5, "error: it is the last one\n")
