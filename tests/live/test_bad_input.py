"""What an operator or a client can get wrong: one clear line each, nothing hangs, nothing is left.

What needs no cluster runs as a process; what does shares the session's cluster.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from splitweave.client import Client, InvalidRequest, NotFound, Refused, SplitweaveError
from splitweave.cluster.live.cluster import LiveCluster

SPLITWEAVE = Path(sys.executable).parent / "splitweave"
SETTLE_S = 200.0
GENERATE = "/splitweave.v1.Inference/Generate"
CONFIG = """
[model]
path = "demo"
[[pools]]
name = "mixed"
role = "mixed"
count = 1
cpus = 0.1
[gateway]
port = 0
[ray]
address = "local"
"""


def _said(*arguments: str | bytes, cwd: Path | None = None) -> tuple[int, str]:
    """A command's exit status and its stderr, which is no traceback and one line."""
    done = subprocess.run(
        [SPLITWEAVE, *arguments], capture_output=True, timeout=300, cwd=cwd, check=False
    )
    said = done.stderr.decode("utf-8", "replace").strip()
    assert "Traceback" not in said
    assert said.count("\n") == 0, said
    return done.returncode, said


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ("count = 1", "cuont = 1", r"unknown key pools[0].cuont; did you mean count?"),
        ("count = 1", 'count = "1"', "pools[0].count: Input should be a valid integer"),
        ('"demo"', '"gone.gguf"', "gone.gguf: no such file or folder"),
        ('"demo"', '"noise.gguf"', "noise.gguf: not a GGUF file"),
        ('"demo"', '"foo"', "architecture 'FooForCausalLM' is not supported; one of: llama"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_by_its_key(
    tmp_path: Path, was: str, now: str, line: str
) -> None:
    (tmp_path / "noise.gguf").write_bytes(b"noise" * 100)
    (tmp_path / "foo").mkdir()
    (tmp_path / "foo" / "config.json").write_text('{"architectures": ["FooForCausalLM"]}')
    (tmp_path / "c.toml").write_text(CONFIG.replace(was, now))
    status, said = _said("serve", "--config", "c.toml", cwd=tmp_path)
    assert status == 2
    assert line in said


def test_a_signal_during_start_up_ends_serve_and_all_it_started(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    process = subprocess.Popen(
        [SPLITWEAVE, "serve", "--config", "c.toml"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = psutil.Process(process.pid)
    deadline = time.monotonic() + SETTLE_S
    while not started.children():  # Ray's first process
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=SETTLE_S)[1]  # ends when nobody has the pipe any more
    assert process.returncode == 130
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", ""),
        ("generate", "hi", "-n", "0"),
        ("generate", "hi", "-t", "nan"),
        ("generate", "hi", "--top-p", "0"),
        ("generate", b"\xff"),
        ("generate", "hi", "--request-id", b"\xff"),
        ("drain", b"\xff"),
    ],
)
def test_a_bad_command_line_is_one_line_and_status_2(
    cluster: LiveCluster, arguments: tuple[str | bytes, ...]
) -> None:
    status, said = _said(*arguments, "--address", cluster.address)
    assert status == 2
    assert said.startswith("error: ")


@pytest.mark.parametrize(
    ("options", "field", "limit"),
    [
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"temperature": float("nan")}, "sampling.temperature", "0 to 100"),
        ({"top_p": 1.5}, "sampling.top_p", "above 0, at most 1"),
        ({"min_p": -0.1}, "sampling.min_p", "0 to 1"),
        ({"repetition_penalty": 0.0}, "sampling.repetition_penalty", "above 0"),
        ({"presence_penalty": 2.5}, "sampling.presence_penalty", "-2 to 2"),
        ({"logprobs": 21}, "sampling.logprobs", "at most 20"),
        ({"stop": ""}, "stop[0]", "1 to 256 characters"),
        ({"stop_token_ids": [10**6]}, "stop_token_ids[0]", "49152"),
        ({"model": "nope"}, "model", "smollm2"),
        ({"request_id": "a b"}, "request_id", "1 to 128 characters"),
    ],
)
def test_a_bad_option_is_refused_by_its_field_and_limit(
    client: Client, options: dict[str, Any], field: str, limit: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.generate("hi", **options)
    assert caught.value.field == field
    assert limit in caught.value.message


@pytest.mark.parametrize("prompt", ["", [], "word " * 9000])
def test_a_prompt_that_is_empty_or_too_long_is_refused(client: Client, prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is empty|at most 8191 leave room to generate"):
        client.generate(prompt, max_tokens=1)


def test_bytes_that_are_no_utf8_are_bad_input(cluster: LiveCluster) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        replies = channel.unary_stream(GENERATE)(b"\x12\x02\xff\xfe", timeout=100)
        with pytest.raises(grpc.RpcError) as caught:
            next(iter(replies))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_ids_are_named(client: Client) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.drain("nobody"),
        lambda: client.set_role("nobody", "mixed"),
        lambda: client.migrate("nobody"),
        lambda: client.cancel("nobody"),
    ]
    for ask in asks:
        with pytest.raises(NotFound, match="nobody"):
            ask()


def test_a_migration_to_itself_or_to_nobody_is_refused_and_the_stream_goes_on(
    client: Client,
) -> None:
    with client.stream("Once upon a time", max_tokens=160, ignore_eos=True) as stream:
        for _ in range(5):
            next(stream)
        running = next(r for r in client.status().requests if r.request_id == stream.request_id)
        for target in (running.worker_id, "nobody", "prefill-0"):
            with pytest.raises((Refused, NotFound, InvalidRequest)):
                client.migrate(stream.request_id, target)
        assert stream.result.usage.output_tokens == 160


def _at_rest(client: Client) -> str:
    """Empty if all workers are alive and nothing is held; else who is not."""
    try:
        picture = client.status()
    except SplitweaveError as error:
        return str(error)
    bad = [
        (worker.worker_id, worker.state, worker.blocks)
        for worker in picture.workers
        if worker.state != "alive"
        or worker.blocks.held + worker.blocks.leased + worker.blocks.quarantined
    ]
    return "" if not bad and not picture.requests else f"{bad} {picture.requests}"


def test_a_worker_that_was_frozen_and_thawed_is_replaced_and_holds_nothing(
    client: Client,
) -> None:
    """It used to stay, dead for the controller and alive for Ray, with all its blocks."""
    prompt = "List the months of the year, one by one."
    options = {"max_tokens": 96, "ignore_eos": True}
    undisturbed = client.generate(prompt, **options)
    with client.stream(prompt, **options) as stream:
        for _ in range(5):
            next(stream)
        picture = client.status()
        running = next(r for r in picture.requests if r.request_id == stream.request_id)
        frozen = next(w for w in picture.workers if w.worker_id == running.worker_id)
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            assert stream.result.token_ids == undisturbed.token_ids
            deadline = time.monotonic() + SETTLE_S
            while _state(client, frozen.worker_id) != "dead" and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
    while why := _at_rest(client):
        assert time.monotonic() < deadline + SETTLE_S, why
        time.sleep(0.2)
    after = next(w for w in client.status().workers if w.worker_id == frozen.worker_id)
    assert after.incarnation > frozen.incarnation


def _state(client: Client, worker_id: str) -> str:
    return next(w.state for w in client.status().workers if w.worker_id == worker_id)
