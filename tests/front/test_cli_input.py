"""Text from outside: stdin, arguments, conversations; what is sent is what was written."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_front import Script, overloaded, serving, text_tokens
from splitweave.cluster.live.cli.app import app
from splitweave.cluster.live.cli.reporting import UsageProblem
from splitweave.cluster.live.cli.text import decode, prompt_text
from splitweave.cluster.live.front.server import Front
from splitweave.proto.requests import Request
from typer.testing import CliRunner, Result

YES = text_tokens("Yes.")
MAIN = "from splitweave.cluster.live.cli.app import main; main()"


async def ask(front: Front, *args: str, stdin: bytes = b"") -> Result:
    command = [*args, "--address", front.address]
    return await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin)


async def sent(*args: str, stdin: bytes = b"") -> tuple[Result, list[str]]:
    """How the command ended, and the prompts that reached the cluster."""
    script = Script(YES)
    async with serving(script) as front:
        result = await ask(front, *args, stdin=stdin)
    return result, [prompt(request) for request in script.opened]


def prompt(request: Request) -> str:
    return bytes(request.token_ids).decode()


@pytest.mark.parametrize(
    "text", ["two\nlines\n", "  spaces  ", "tab\there", "\r\nwindows\r\n", "nul\x00byte", "🙂 日本"]
)
async def test_stdin_is_sent_as_it_is(text: str) -> None:
    result, prompts = await sent("generate", "-", stdin=text.encode())
    assert (result.exit_code, prompts) == (0, [text])


async def test_an_empty_stdin_is_an_empty_prompt_and_refused() -> None:
    result, prompts = await sent("generate", "-")
    assert (result.exit_code, prompts) == (2, [])
    assert result.stderr == "error: text: is empty; a prompt has at least one character\n"


@pytest.mark.parametrize(
    ("raw", "offset", "byte"),
    [(b"\xff", 0, "ff"), (b"abc\xe4", 3, "e4"), ("ü".encode() + b"\x80x", 2, "80")],
)
def test_the_first_byte_that_is_no_text_is_named(raw: bytes, offset: int, byte: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        decode(raw, "stdin")
    said = f"stdin is not UTF-8: byte 0x{byte} at offset {offset} of {len(raw)}"
    assert str(refused.value) == said


def test_an_argument_that_is_no_text_is_refused_by_its_offset() -> None:
    """A shell passes any bytes; Python hides them as surrogates."""
    argument = os.fsdecode(b"caf\xe9")
    with pytest.raises(UsageProblem, match="PROMPT is not UTF-8: byte 0xe9 at offset 3 of 4"):
        prompt_text(argument)
    assert prompt_text("café") == "café"


async def test_a_dash_among_words_is_a_word() -> None:
    _, prompts = await sent("generate", "a - b")
    assert prompts == ["a - b"]


async def test_a_prompt_that_looks_like_an_option_goes_after_two_dashes() -> None:
    script = Script(YES)
    async with serving(script) as front:
        command = ["generate", "--address", front.address, "--", "--seed"]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert (result.exit_code, prompt(script.opened[0])) == (0, "--seed")


async def test_several_stop_strings_end_at_the_first() -> None:
    script = Script(text_tokens("one, two. three"))
    async with serving(script) as front:
        result = await ask(front, "generate", "x", "--stop", ".", "--stop", ", ", "--json")
    told = json.loads(result.stdout)
    assert (told["text"], told["finish_reason"]) == ("one", "stop")


async def test_json_of_a_chat_has_the_date_of_its_rendering() -> None:
    async with serving(Script(YES)) as front:
        chat = json.loads((await ask(front, "generate", "x", "--chat", "--json")).stdout)
        text = json.loads((await ask(front, "generate", "x", "--json")).stdout)
    assert chat["rendered_at_s"] > 1_700_000_000
    assert text["rendered_at_s"] is None
    assert chat["accounting"]["moves"][0]["hidden_bytes"] == 500


async def test_an_overloaded_cluster_is_tried_again_as_long_as_there_is_time() -> None:
    script = Script(YES, failures=[overloaded(1_000_000)] * 2)
    async with serving(script) as front:
        patient = await ask(front, "generate", "x")
        script.failures = [overloaded(10**12)]
        hurried = await ask(front, "generate", "x", "--timeout", "60")
    assert (patient.exit_code, patient.stdout) == (0, "Yes.\n")
    assert hurried.exit_code == 3
    assert hurried.stderr == "error: the queue is full: 512 requests\n"


# ---- conversations


async def test_each_turn_carries_all_before_it() -> None:
    _, prompts = await sent("chat", stdin=b"one\ntwo\nthree\n")
    assert prompts == [
        "<user>one",
        "<user>one<assistant>Yes.<user>two",
        "<user>one<assistant>Yes.<user>two<assistant>Yes.<user>three",
    ]


async def test_a_last_line_without_its_end_is_a_turn_and_blank_ones_are_not() -> None:
    _, prompts = await sent("chat", stdin=b"\n   \n\nonly")
    assert prompts == ["<user>only"]


async def test_a_refused_turn_leaves_the_history_as_it_was() -> None:
    script = Script(YES)
    async with serving(script) as front:
        result = await ask(front, "chat", stdin=b"one\n" + b"x" * 5000 + b"\ntwo\n")
    assert result.exit_code == 0
    assert [prompt(request) for request in script.opened][1:] == [
        "<user>one<assistant>Yes.<user>two"
    ]


async def test_a_chats_options_hold_for_every_answer() -> None:
    script = Script(YES)
    async with serving(script) as front:
        await ask(front, "chat", "-t", "0.5", "--seed", "3", "-n", "2", stdin=b"a\nb\n")
    settings = [(r.sampling.temperature, r.sampling.seed, r.max_tokens) for r in script.opened]
    assert settings == [(0.5, 3, 2)] * 2
    assert prompt(script.opened[1]) == "<user>a<assistant>Ye<user>b"


async def test_what_the_model_writes_is_no_markup() -> None:
    script = Script(text_tokens("[red]a[/red] :smile: [/x]"))
    async with serving(script) as front:
        result = await ask(front, "chat", stdin=b"x\n")
    assert "[red]a[/red] :smile: [/x]" in result.stdout


async def test_a_cluster_that_goes_away_ends_the_chat_with_3() -> None:
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["chat", "--address", "127.0.0.1:9"], input=b"x\n"
    )
    assert result.exit_code == 3
    assert "is `splitweave serve` running there?" in result.stderr


async def test_an_interrupt_before_the_first_token_exits_130_and_cancels() -> None:
    """The real program, a real signal."""
    parent = Path(sys.modules["splitweave"].__file__ or "").parents[1]
    paths = [str(parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    script = Script(YES, pause_at=0)
    async with serving(script) as front:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MAIN, "generate", "-", "--address", front.address,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(b"from a pipe")
        child.stdin.close()
        await script.paused.wait()
        child.send_signal(signal.SIGINT)
        stdout, stderr = await child.communicate()
        await script.left.wait()
    assert (child.returncode, stdout, stderr) == (130, b"", b"")
    assert [prompt(request) for request in script.opened] == ["from a pipe"]
