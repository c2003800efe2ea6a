"""What the demo shows reads well in 80 columns and in 120."""

import io
import re
from collections.abc import Sequence
from typing import Any

import pytest
from pictures import STATUS
from rich.console import Console, RenderableType
from splitweave.client import MoveKind
from splitweave.client.status import cluster_status as from_wire
from splitweave.cluster.live.demo import run as story
from splitweave.cluster.live.demo.prompts import ASKS
from splitweave.cluster.live.demo.screen import LEGEND, Chat, Screen, table
from splitweave.cluster.live.front.picture import cluster_status
from told_results import told_generation, told_move

HANDOFF = told_move(MoveKind.HANDOFF, "prefill-0", "decode-0")
MIGRATION = told_move(MoveKind.MIGRATION, "decode-0", "decode-1", downtime_s=0.034)
MIGRATED = told_generation(HANDOFF, MIGRATION, workers=("prefill-0", "decode-0", "decode-1"))
PLAIN = told_generation(HANDOFF, workers=("prefill-0", "decode-0"))
WIDTHS = pytest.mark.parametrize("width", [80, 120])
HEADERS = ["request", "workers", "visited", "in", "hit", "out", "TTFT", "TPOT", "moved", "hid"]


def shown(what: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def chats() -> list[Chat]:
    results = [MIGRATED, *[PLAIN] * (len(ASKS) - 1)]
    return [Chat(ask, result=result) for ask, result in zip(ASKS, results, strict=True)]


def final_table(width: int, equal: Sequence[bool | None] | None = None) -> list[str]:
    return shown(table(chats(), equal or [True] * len(ASKS)), width)


@WIDTHS
def test_no_word_of_the_table_is_cut_or_folded(width: int) -> None:
    lines = final_table(width)
    words = " ".join(lines).split()
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    assert {*HEADERS, "stop", "same", "s", "ms", "MB", "%"} <= set(words)
    assert {ask.name for ask in ASKS} <= set(words)


@WIDTHS
def test_a_request_is_one_line_unless_its_workers_fold_after_an_arrow(width: int) -> None:
    lines = final_table(width)
    (start,) = [index for index, line in enumerate(lines) if line.split()[:1] == ["gravity"]]
    rows = lines[start : lines.index("", start) if "" in lines else len(lines)]
    named = [row for row in rows if row.split()[:1] and row.split()[0] in {a.name for a in ASKS}]
    folded = [row for row in rows[: rows.index(named[-1])] if row not in named]
    assert len(named) == len(ASKS)
    assert all(re.fullmatch(r" +decode-\d→?", row.rstrip()) for row in folded)
    assert len(folded) <= (1 if width == 80 else 0)


@WIDTHS
def test_a_requests_figures_are_in_its_line(width: int) -> None:
    lines = final_table(width)
    (gravity,) = [line for line in lines if " gravity " in f" {line}"]
    figures = ["1234", "640", "96", "12.34", "46", "3.0", "87", "34", "yes"]
    assert gravity.split()[-len(figures) :] == figures
    (sky,) = [line for line in lines if " sky " in f" {line}"]
    assert "prefill-0→ decode-0" in sky
    assert sky.split()[-2:] == ["-", "yes"]  # nothing stopped


@WIDTHS
def test_one_line_below_explains_the_short_headers(width: int) -> None:
    assert final_table(width)[-1].strip() == LEGEND
    assert len(LEGEND) <= 80


def test_a_request_that_differs_from_a_lone_workers_stands_out() -> None:
    rows = final_table(120, [False, True, None, True, True])
    ends = [line.split()[-1] for line in rows if line.split()[:1] and "→" in line]
    assert ends == ["NO", "yes", "?", "yes", "yes"]


def test_a_request_without_a_result_has_no_row() -> None:
    unfinished = Chat(ASKS[0])
    rows = shown(table([unfinished, *chats()[1:]], [None] * len(ASKS)), 80)
    assert not any("gravity" in row for row in rows)


def test_aborted_moves_count_as_bytes_but_stop_nothing() -> None:
    aborted = told_move(MoveKind.MIGRATION, "decode-0", "decode-1", committed=False)
    chat = Chat(ASKS[0], result=told_generation(aborted, workers=("lone-0",)))
    (row,) = [line for line in shown(table([chat], [True]), 80) if "gravity" in line]
    assert row.split()[-4:] == ["1.5", "-", "-", "yes"]


def streaming() -> Screen:
    text = "Gravity is the pull between things. " * 12
    live = [Chat(ask, text=text, tokens=17) for ask in ASKS]
    live[0].note = "[yellow]migrated decode-0 → decode-1 at token 17[/yellow]"
    status = from_wire(cluster_status(STATUS, "smol"))
    return Screen(live, status, ["[red]older[/red]", "[red]migration: refused[/red]"])


@WIDTHS
def test_the_live_screen_fits_24_rows(width: int) -> None:
    lines = shown(streaming(), width)
    assert len(lines) <= 24
    assert all(len(line) <= width for line in lines)


@WIDTHS
def test_the_live_screen_shows_each_chats_newest_words_and_every_worker(width: int) -> None:
    screen = streaming()
    screen.chats[0].text += "Newest\n\nwords"
    lines = shown(screen, width)
    seen = "\n".join(lines)
    assert "Newest words" in seen
    assert "gravity · 17 tokens migrated decode-0 → decode-1 at token 17" in seen
    for worker in ("decode-0   1 running  1 waiting  36/100 blocks", "prefill-0  0 running"):
        assert worker in seen
    assert "migration: refused" in seen
    assert "older" not in seen


def test_a_model_that_writes_markup_is_shown_as_it_wrote() -> None:
    screen = Screen([Chat(ASKS[0], text="[red]not ours[/red] [/bold]")])
    assert "[red]not ours[/red] [/bold]" in "\n".join(shown(screen, 80))


def test_before_the_first_token_and_without_a_status_there_is_something_to_see() -> None:
    lines = shown(Screen([Chat(ASKS[0])]), 80)
    assert any("gravity · 0 tokens" in line for line in lines)
    assert any("…" in line for line in lines)


# ---- what the demo concludes


def report(equal: list[bool], migrated: bool) -> tuple[bool, str]:
    asked = chats()
    results = [MIGRATED if migrated else PLAIN, *[PLAIN] * (len(ASKS) - 1)]
    for chat, result in zip(asked, results, strict=True):
        account = story.dataclasses.replace(result.accounting, migrations=int(result is MIGRATED))
        chat.result = story.dataclasses.replace(result, accounting=account)
    alone: list[Any] = [
        PLAIN
        if same
        else story.dataclasses.replace(PLAIN, tokens=(type("T", (), {"token_id": 1}),))
        for same in equal
    ]
    console = Console(file=io.StringIO(), width=120, color_system=None)
    good = story._report(console, asked, alone)
    assert isinstance(console.file, io.StringIO)
    return good, console.file.getvalue()


def test_the_demo_is_good_only_if_all_are_equal_and_the_migration_took_place() -> None:
    good, said = report([True] * 5, migrated=True)
    assert good
    assert "Every stream has the same tokens as on a lone worker, the migrated one too." in said
    good, said = report([True] * 5, migrated=False)
    assert not good
    assert "The migration did not take place." in said
    good, said = report([True, False, True, True, True], migrated=True)
    assert not good
    assert "Some streams differ from the lone worker's." in said


def test_exactly_one_chat_of_the_demo_moves_and_its_answer_is_long_enough() -> None:
    moving = [ask for ask in ASKS if ask.migrate]
    assert len(moving) == 1
    assert moving[0].max_tokens > 2 * story.MIGRATE_AFTER_TOKENS
    assert len({ask.name for ask in ASKS}) == len(ASKS)
    assert {ask.temperature > 0 for ask in ASKS} == {True, False}


def test_the_demo_runs_on_a_small_machine_beside_its_reference() -> None:
    demo, lone = story.demo_config(), story.lone_config()
    cpus = sum(pool.count * pool.cpus for config in (demo, lone) for pool in config.pools)
    assert cpus <= 2
    assert demo.gateway.port == lone.gateway.port == 0
    assert demo.ray.namespace != lone.ray.namespace
