"""The operator's commands: what they draw, what programs read, how they end."""

import asyncio
import dataclasses
import io
import json
from typing import Any

import pytest
from pictures import STATUS
from rich.console import Console
from scripted_front import Script, serving
from splitweave.client import ClusterStatus, NotFound, errors
from splitweave.client.status import cluster_status as from_wire
from splitweave.cluster.core.membership import WorkerState
from splitweave.cluster.live.cli import chat, drain, generate, operate, simulate, status
from splitweave.cluster.live.cli import serve as serve_command
from splitweave.cluster.live.cli.app import app
from splitweave.cluster.live.cli.reporting import HINTS, UsageProblem, reporting
from splitweave.cluster.live.cli.reporting import STATUS as EXIT
from splitweave.cluster.live.cli.status import narrowed
from splitweave.cluster.live.cli.tables import gauge, tables
from splitweave.cluster.live.front.picture import STATES, cluster_status
from splitweave.proto import admin_pb2 as pb
from splitweave.proto.effects import AnswerAsk
from splitweave.proto.toml_file import ConfigError
from told_results import told_generation, told_move
from typer.testing import CliRunner, Result

PICTURE = from_wire(cluster_status(STATUS, "smol"))


class Operator:
    """Has the picture; does what is asked."""

    def __init__(self, error: str = "") -> None:
        self._error = error

    async def status(self) -> Any:
        return STATUS

    async def drain(self, *_ask: Any) -> AnswerAsk:
        return AnswerAsk(ask_id="a", error=self._error)

    migrate = set_role = drain


async def invoke(*args: str, error: str = "", env: dict[str, str] | None = None) -> Result:
    async with serving(Script([]), Operator(error)) as front:
        command = [*args, "--address", front.address]
        return await asyncio.to_thread(CliRunner().invoke, app, command, env=env)


def drawn(picture: ClusterStatus, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(tables(picture))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(text: str, first: str) -> list[str]:
    (found,) = [line.split() for line in text.splitlines() if line.split()[:1] == [first]]
    return found


def test_a_workers_row_has_its_role_its_load_and_every_kind_of_block() -> None:
    """held, free, cached, leased, quarantined: each in its own column."""
    text = drawn(PICTURE)
    head = next(line for line in text.splitlines() if line.startswith("WORKER"))
    order = ["HELD", "FREE", "CACHED", "LEASED", "QUARANTINED", "HEARD", "NODE", "PID"]
    assert head.split()[-8:] == order
    worker = row(text, "decode-0")
    assert worker[1:5] == ["decode", "alive", "1", "1"]
    assert worker[5:] == ["███░░░░░░░", "30/100", "50", "10", "6", "4", "0.1", "s", "node-a", "77"]


def test_a_narrow_terminal_shows_every_number_of_a_worker_in_two_rows() -> None:
    text = drawn(PICTURE, width=80)
    load, memory = (line.split() for line in text.splitlines() if line.startswith("decode-0 "))
    assert load == ["decode-0", "decode", "alive", "1", "1", "0.1", "s", "node-a", "77"]
    assert memory == ["decode-0", "███░░░░░░░", "30/100", "50", "10", "6", "4"]
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_requests_row_says_where_it_is_and_how_far() -> None:
    assert row(drawn(PICTURE), "r1") == ["r1", "decode", "decode-0", "5", "4", "2.0", "s"]


def test_a_request_that_waits_has_no_worker() -> None:
    (request,) = PICTURE.requests
    waiting = dataclasses.replace(request, state="waiting", worker_id="")
    picture = dataclasses.replace(PICTURE, requests=(waiting,))
    assert row(drawn(picture), "r1")[:3] == ["r1", "waiting", "-"]


def test_a_moves_row_says_from_where_to_where_and_why() -> None:
    expected = ["m1", "migration", "r1", "decode-0", "prefill-0", "operator"]
    assert row(drawn(PICTURE), "m1")[:6] == expected


def test_empty_tables_are_left_out_and_the_heading_stays() -> None:
    text = drawn(dataclasses.replace(PICTURE, workers=(), requests=(), moves=(), model=""))
    assert text.splitlines() == [
        "model unknown: 0 of 0 workers alive, 0 requests, 0 moves, up 60 s"
    ]


def test_only_living_workers_count_as_alive() -> None:
    dead = dataclasses.replace(PICTURE.workers[0], state="dead")
    text = drawn(dataclasses.replace(PICTURE, workers=(dead, PICTURE.workers[1])))
    assert "1 of 2 workers alive" in text
    assert row(text, "decode-0")[2] == "dead"


@pytest.mark.parametrize(
    ("held", "total", "bar"),
    [(0, 8, "░" * 10), (8, 8, "█" * 10), (4, 8, "█████░░░░░"), (0, 0, "░" * 10)],
)
def test_the_gauge_is_the_held_share(held: int, total: int, bar: str) -> None:
    blocks = dataclasses.replace(PICTURE.workers[0].blocks, held=held, total=total)
    assert gauge(blocks) == f"{bar} {held}/{total}"


def test_one_requests_picture_is_its_worker_and_its_moves() -> None:
    other = dataclasses.replace(PICTURE.moves[0], move_id="m2", request_id="r2")
    picture = dataclasses.replace(PICTURE, moves=(*PICTURE.moves, other))
    found = narrowed(picture, "r1")
    assert [worker.worker_id for worker in found.workers] == ["decode-0"]
    assert [move.move_id for move in found.moves] == ["m1"]
    assert narrowed(picture, None) is picture
    with pytest.raises(NotFound, match="request 'r9' does not run"):
        narrowed(picture, "r9")


def test_every_state_of_a_worker_has_its_word_on_the_wire() -> None:
    assert set(STATES) == set(WorkerState)
    for state, number in STATES.items():
        first = dataclasses.replace(STATUS.workers[0], state=state)
        wire = cluster_status(dataclasses.replace(STATUS, workers=(first,)), "m")
        assert wire.workers[0].state == number
        assert from_wire(wire).workers[0].state == state.value


def test_every_field_of_the_picture_is_sent() -> None:
    for message in cluster_status(STATUS, "m").workers[:1]:
        sent = {field.name for field, _ in message.ListFields()}
        assert sent == {field.name for field in pb.Worker.DESCRIPTOR.fields}
    assert PICTURE.workers[0].pool == "p"


async def test_a_piped_status_keeps_every_column_whole() -> None:
    result = await invoke("status", env={"COLUMNS": "40"})
    assert result.exit_code == 0
    assert row(result.stdout, "decode-0")[-1] == "77"
    assert "…" not in result.stdout


async def test_the_status_for_programs_is_one_object_with_all_of_it() -> None:
    result = await invoke("status", "--json")
    told = json.loads(result.stdout)
    assert told == json.loads(json.dumps(dataclasses.asdict(from_wire(
        cluster_status(STATUS, "scripted")
    ))))  # fmt: skip
    assert told["workers"][0]["blocks"]["quarantined"] == 4
    assert told["moves"][0]["why"] == "operator"


async def test_a_watched_status_draws_until_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", pause)
    result = await invoke("status", "--watch")
    assert result.exit_code == 130
    assert looks == [status.PERIOD_S] * 3
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "error", "exit_code", "says"),
    [
        (["migrate", "r9"], "unknown request r9", 4, "`splitweave status` lists what there is"),
        (["migrate", "r1"], "it does not decode now", 5, "error: it does not decode now\n"),
        (["set-role", "decode-0", "mixed"], "the last one", 5, "error: the last one\n"),
        (["drain", "decode-0", "--deadline", "0"], "", 2, "deadline"),
        (["drain", "decode-0", "--deadline", "99999"], "", 2, "deadline_s: is 99999"),
        (["migrate"], "", 2, "REQUEST"),
    ],
)
async def test_an_order_that_is_not_carried_out_says_why(
    command: list[str], error: str, exit_code: int, says: str
) -> None:
    result = await invoke(*command, error=error)
    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_move_in_words_has_bytes_times_and_its_end() -> None:
    move = told_move(generate_kind(), "decode-0", "decode-1", downtime_s=0.0125)
    assert operate.describe(move) == (
        "migration decode-0 -> decode-1: 1,500,000 bytes in 30.0 ms, 12.5 ms of it stopped;"
        " committed"
    )
    aborted = told_move(generate_kind(), "decode-0", "decode-1", committed=False)
    assert operate.describe(aborted).endswith("0.0 ms of it stopped; aborted: lease expired")


def generate_kind() -> Any:
    return PICTURE.moves[0].kind


def test_figures_name_the_workers_in_order() -> None:
    result = told_generation(workers=("prefill-0", "decode-0", "decode-1"))
    assert generate.figures(result) == (
        "[prefill-0 > decode-0 > decode-1] 1234 prompt + 96 output tokens,"
        " TTFT 12344 ms, TPOT 45.6 ms"
    )


# ---- how every command ends

RAISED: list[tuple[Exception, int]] = [
    (errors.ServerError("INTERNAL: boom"), 1),
    (errors.Cancelled("cancelled"), 1),
    (errors.InvalidRequest("text: is empty"), 2),
    (ConfigError("pools: none"), 2),
    (UsageProblem("stdin is not UTF-8"), 2),
    (errors.Overloaded("full"), 3),
    (errors.Unavailable("nobody"), 3),
    (errors.NotFound("no such"), 4),
    (errors.Refused("not now"), 5),
    (errors.Denied("not yours"), 5),
    (errors.DeadlineExceeded("over"), 6),
    (KeyboardInterrupt(), 130),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("error", "code"), RAISED, ids=lambda item: type(item).__name__)
def test_each_error_has_its_status_and_one_line(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(status.typer.Exit) as left, reporting():
        raise error
    said = capsys.readouterr()
    assert left.value.exit_code == code
    assert said.out == ""
    if code != 130:
        assert said.err.startswith(f"error: {error}")
        assert said.err.count("\n") == 1
        hint = HINTS.get(type(error))
        assert hint is None or f"({hint})" in said.err


def test_every_status_is_in_the_help_and_every_error_has_one() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for code in {0, 1, 130, *EXIT.values()}:
        assert f"{code} " in text.partition("Exit status:")[2]
    known = [error for error in vars(errors).values() if isinstance(error, type)]
    ours = [kind for kind in known if issubclass(kind, errors.SplitweaveError)]
    unplanned = {errors.SplitweaveError, errors.ServerError, errors.Cancelled}
    assert set(ours) - set(EXIT) == unplanned


def test_an_unplanned_error_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), reporting():
        raise ZeroDivisionError


def test_a_message_of_many_lines_is_said_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(status.typer.Exit), reporting():
        raise errors.NotFound("a\n  b [bold]c[/bold] :smile:")
    assert capsys.readouterr().err.startswith("error: a b [bold]c[/bold] :smile: (")


COMMANDS = {
    "serve": serve_command.serve, "generate": generate.generate, "chat": chat.chat,
    "status": status.status, "drain": drain.drain, "migrate": operate.migrate,
    "set-role": operate.set_role, "simulate": simulate.simulate,
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_examples_use_options_that_it_has(name: str) -> None:
    text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
    options, _, examples = text.partition("Examples:")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert line.startswith(f"splitweave {name}")
        for word in line.split():
            if word.startswith("-") and word != "-":
                assert word in options.replace(",", " ").split(), (word, line)
    assert " ".join((COMMANDS[name].__doc__ or "").split("\n\n")[0].split()) in " ".join(
        text.split()
    )


def test_the_help_lists_every_command_with_its_first_line() -> None:
    text = " ".join(CliRunner().invoke(app, ["-h"], env={"COLUMNS": "200"}).stdout.split())
    for name, command in COMMANDS.items():
        first = (command.__doc__ or "").split(". ")[0].split(".")[0]
        assert f"{name} {first}" in text


@pytest.mark.parametrize(
    "args", [["nonsense"], ["generate"], ["status", "--nonsense"], ["serve", "--port", "99999"]]
)
def test_a_command_line_that_cannot_be_read_exits_2(args: list[str]) -> None:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
