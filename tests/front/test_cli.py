import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_front import VOCABULARY, Script, serving, text_tokens
from splitweave import __version__
from splitweave.cluster.live.cli.app import app
from splitweave.cluster.live.front.server import Front
from typer.testing import CliRunner, Result

ANSWER = "Grüße, 日本"
TOKENS = text_tokens(ANSWER)
NOBODY = "127.0.0.1:9"
MAIN = "from splitweave.cluster.live.cli.app import main; main()"


def invoke(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(args), input=stdin)


async def ask(front: Front, *args: str, stdin: bytes | None = None) -> Result:
    return await asyncio.to_thread(invoke, *args, "--address", front.address, stdin=stdin)


async def test_generate_prints_the_answer() -> None:
    async with serving(Script(TOKENS)) as front:
        result = await ask(front, "generate", "hi")
    assert (result.exit_code, result.stdout) == (0, ANSWER + "\n")


async def test_generate_reads_stdin() -> None:
    script = Script(TOKENS)
    async with serving(script) as front:
        result = await ask(front, "generate", "-", stdin="prömpt".encode())
    assert result.exit_code == 0
    assert bytes(script.opened[0].token_ids) == "prömpt".encode()


async def test_generate_refuses_stdin_that_is_not_utf8_by_offset() -> None:
    script = Script(TOKENS)
    async with serving(script) as front:
        result = await ask(front, "generate", "-", stdin=b"abc\xffdef")
    assert result.exit_code == 2
    assert "stdin is not UTF-8: byte 0xff at offset 3 of 7" in result.stderr
    assert script.opened == []


async def test_generate_sends_every_sampling_option() -> None:
    script = Script(TOKENS)
    args = (
        "-n 3 -t 0.5 --top-k 9 --top-p 0.75 --min-p 0.25 --repetition-penalty 1.5"
        " --presence-penalty 0.5 --frequency-penalty -0.5 --seed 0 --stop-token-id 7"
        " --stop zz --logprobs 1 --request-id mine --model scripted --ignore-eos --timeout 60"
    )
    async with serving(script) as front:
        result = await ask(front, "generate", "x", *args.split())
    assert result.exit_code == 0, result.output
    (request,) = script.opened
    sampling = request.sampling
    assert (request.request_id, request.max_tokens, request.stop_token_ids) == ("mine", 3, {7})
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (
        0.5, 9, 0.75, 0.25,
    )  # fmt: skip
    assert (sampling.repetition_penalty, sampling.presence_penalty) == (1.5, 0.5)
    assert (sampling.frequency_penalty, sampling.seed, sampling.logprobs) == (-0.5, 0, 1)


async def test_generate_json_is_one_object_with_everything() -> None:
    async with serving(Script(TOKENS)) as front:
        result = await ask(front, "generate", "x", "--json", "--seed", "4")
    answer = json.loads(result.stdout)
    assert (answer["text"], answer["seed"], answer["finish_reason"]) == (ANSWER, 4, "length")
    assert answer["accounting"]["workers"] == ["prefill-0", "decode-0"]
    assert [token["token_id"] for token in answer["tokens"]] == TOKENS


async def test_generate_stats_go_to_stderr() -> None:
    async with serving(Script(TOKENS)) as front:
        result = await ask(front, "generate", "x", "--stats", "--chat")
    assert result.stdout == ANSWER + "\n"
    assert "[prefill-0 > decode-0] 7 prompt + 15 output tokens, TTFT 20 ms" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["x", "--max-tokens", "0"], "max_tokens: is 0; at least 1"),
        (["x", "-t", "-1"], "sampling.temperature: is -1; 0 to 100"),
        (["x", "-t", "nan"], "sampling.temperature: is nan"),
        (["x", "--top-k", "-1"], "sampling.top_k"),
        (["x", "--top-p", "0"], "sampling.top_p: is 0; above 0"),
        (["x", "--model", "gpt"], "model: is 'gpt'; served is 'scripted'"),
        (["x", "--request-id", "a b"], "request_id: must be 1 to 128 characters"),
        (["x", "--logprobs", "21"], "sampling.logprobs: is 21; at most 20"),
        ([""], "text: is empty"),
        (["x" * 5000], "text: has 5000 tokens; at most 4095"),
    ],
)
async def test_generate_refuses_bad_input_in_one_line(args: list[str], says: str) -> None:
    async with serving(Script(TOKENS)) as front:
        result = await ask(front, "generate", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


async def test_chat_keeps_the_conversation_and_leaves_at_the_end_of_input() -> None:
    script = Script(text_tokens("Yes."))
    async with serving(script) as front:
        result = await ask(front, "chat", "--system", "Be brief.", stdin=b"one\n\ntwo\n")
    assert result.exit_code == 0
    assert [bytes(request.token_ids).decode() for request in script.opened] == [
        "<system>Be brief.<user>one",
        "<system>Be brief.<user>one<assistant>Yes.<user>two",
    ]
    assert result.stdout.count("Yes.") == 2


async def test_chat_goes_on_after_a_turn_that_is_refused() -> None:
    script = Script(text_tokens("Yes."))
    async with serving(script) as front:
        stdin = b"bad \xff\n" + b"x" * 5000 + b"\nok\n"
        result = await ask(front, "chat", stdin=stdin)
    assert result.exit_code == 0
    assert "stdin is not UTF-8: byte 0xff at offset 4" in result.stderr
    assert "at most 4095" in result.stderr
    assert [bytes(request.token_ids).decode() for request in script.opened] == ["<user>ok"]


@pytest.mark.parametrize("command", [["generate", "x"], ["status"], ["drain", "w"]])
def test_an_absent_gateway_is_one_line_and_status_3(command: list[str]) -> None:
    result = invoke(*command, "--address", NOBODY)
    assert result.exit_code == 3
    assert "is `splitweave serve` running there?" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bad_address_is_refused() -> None:
    result = invoke("status", "--address", "nowhere")
    assert result.exit_code == 2
    assert "address: is 'nowhere'; host:port" in result.stderr


def test_version_is_the_packages() -> None:
    assert invoke("--version").stdout == f"splitweave {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["serve", "generate", "chat", "status", "drain", "migrate", "set-role", "simulate"],
)
def test_the_help_of_every_command_shows_how_to_use_it(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"splitweave {command}" in result.stdout


def test_help_lists_the_commands_and_exit_statuses() -> None:
    result = invoke("--help")
    assert "splitweave generate" in result.stdout
    assert "130 Ctrl-C" in result.stdout


def test_serve_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitweave.cluster.live.cli import serve

    monkeypatch.setattr(serve, "find_spec", lambda module: None)
    result = invoke("serve")
    assert result.exit_code == 2
    assert result.stderr == "error: Ray is not installed: pip install 'splitweave[serve]'\n"


def test_simulate_passes_its_options_on_and_exits_as_the_simulator_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from splitweave.cluster.live.cli import simulate

    ran: list[tuple[Path, dict[str, object]]] = []

    class Simulator:
        @staticmethod
        def run(path: Path, **options: object) -> int:
            ran.append((path, options))
            return 1

        @staticmethod
        def files_of(out: Path | None, **single: Path | None) -> object:
            return [out, single]

    monkeypatch.setattr(simulate, "import_module", lambda name: Simulator)
    result = invoke("simulate", "x.toml", "--seed", "1", "--seeds", "2", "--json")
    nowhere = [None, {"html": None, "csv": None, "trace": None}]
    options = {
        "seed": 1, "seeds": 2, "step_by_step": False, "as_json": True, "record": None,
        "files": nowhere,
    }  # fmt: skip
    assert ran.pop() == (Path("x.toml"), options)
    assert result.exit_code == 1
    files = ["--out", "d", "--html", "h", "--csv", "c", "--trace", "t"]
    invoke("simulate", "x.toml", *files)
    wanted = [Path("d"), {"html": Path("h"), "csv": Path("c"), "trace": Path("t")}]
    assert ran.pop()[1]["files"] == wanted


def test_compare_wants_at_least_two_results(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitweave.cluster.live.cli import compare

    asked: list[object] = []

    class Simulator:
        @staticmethod
        def compare(paths: list[Path], *, html: Path | None) -> int:
            asked.append((paths, html))
            return 2

    monkeypatch.setattr(compare, "import_module", lambda name: Simulator)
    alone = invoke("compare", "a")
    assert alone.exit_code == 2
    assert "give at least two" in alone.stderr
    assert asked == []
    assert invoke("compare", "a", "b", "--html", "x.html").exit_code == 2
    assert asked == [([Path("a"), Path("b")], Path("x.html"))]


def test_profile_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from splitweave.cluster.live.cli import serve

    monkeypatch.setattr(serve, "find_spec", lambda module: None)
    result = invoke("profile")
    assert result.exit_code == 2
    assert "is not installed: pip install 'splitweave[serve]'" in result.stderr


def child_environment() -> dict[str, str]:
    """Ours: the checkout is importable the way it is here."""
    package_parent = Path(sys.modules["splitweave"].__file__ or "").parents[1]
    paths = [str(package_parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_the_command_line_and_the_sdk_load_without_ray_torch_or_numpy() -> None:
    code = (
        "import sys\n"
        "for name in ('ray', 'torch', 'numpy', 'transformers'): sys.modules[name] = None\n"
        "import splitweave.client, splitweave.cluster.live.cli.app\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment(), timeout=240)


async def child(
    front: Front, *args: str, stdout: int = subprocess.PIPE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, *args, "--address", front.address,
        stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE,
        env=child_environment(),
    )  # fmt: skip


async def test_ctrl_c_cancels_the_request_and_exits_130_without_a_traceback() -> None:
    script = Script(TOKENS, pause_at=4)
    async with serving(script) as front:
        generate = await child(front, "generate", "x")
        assert generate.stdout is not None
        assert await generate.stdout.readexactly(2) == b"Gr"
        generate.send_signal(signal.SIGINT)
        _, stderr = await generate.communicate()
        await script.left.wait()
    assert generate.returncode == 130
    assert b"Traceback" not in stderr


async def test_a_terminal_that_lacks_a_character_shows_a_question_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    async with serving(Script(TOKENS)) as front:
        generate = await child(front, "generate", "x")
        stdout, stderr = await generate.communicate()
    assert (generate.returncode, stdout, stderr) == (0, b"Gr??e, ??\n", b"")


async def test_a_reader_that_leaves_gets_no_traceback() -> None:
    """What it leaves unread fills the pipe: whenever it goes, the command still writes."""
    answer = [VOCABULARY.index(b" the")] * 4_000
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096) < 4 * len(answer)
    async with serving(Script(answer)) as front:
        generate = await child(front, "generate", "x", stdout=writer)
        os.close(writer)
        assert await asyncio.to_thread(os.read, reader, 1) == b" "
        os.close(reader)
        _, stderr = await generate.communicate()
    assert generate.returncode == 1
    assert b"Traceback" not in stderr


async def test_ctrl_c_in_chat_cancels_the_answer_and_keeps_what_was_said() -> None:
    script = Script(TOKENS, pause_at=4)
    async with serving(script) as front:
        chat = await child(front, "chat")
        assert chat.stdin is not None
        chat.stdin.write(b"one\n")
        await script.paused.wait()
        assert chat.stdout is not None
        assert await chat.stdout.readexactly(4) == "Grü".encode()
        chat.send_signal(signal.SIGINT)
        await script.left.wait()
        script.pause_at = None
        stdout, stderr = await chat.communicate(b"two\n")
    assert (chat.returncode, stderr) == (0, b"")
    assert b"(cancelled)" in stdout
    assert bytes(script.opened[1].token_ids).decode() == "<user>one<assistant>Grü<user>two"
