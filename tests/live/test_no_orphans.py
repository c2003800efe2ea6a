"""Whoever dies, nothing is left behind: no process, no held block."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from splitweave.client import Client
from splitweave.cluster.live.cluster import LiveCluster

BIN = Path(sys.executable).parent
SETTLE_S = 150.0


def _eventually(claim: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not claim():
        assert time.monotonic() < deadline, f"not within {SETTLE_S:g} s: {what}"
        time.sleep(0.1)


def _at_rest(client: Client) -> bool:
    """Every worker alive, nothing held, leased, waiting or running."""
    status = client.status()
    return not status.requests and all(
        worker.state == "alive"
        and worker.blocks.held == 0
        and worker.blocks.leased == 0
        and worker.running == 0
        and worker.waiting == 0
        for worker in status.workers
    )


def _command(process: psutil.Process) -> str:
    """Empty if it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_a_killed_client_leaves_no_held_block(cluster: LiveCluster, client: Client) -> None:
    code = (
        "import sys\n"
        "from splitweave.client import Client\n"
        f"for delta in Client({cluster.address!r}).stream('Once upon a time', max_tokens=7000, "
        "ignore_eos=True):\n"
        "    print(delta.text, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it streams
    assert client.status().requests
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    _eventually(lambda: _at_rest(client), "blocks freed after the client's death")


def test_a_killed_idle_worker_comes_back_as_a_new_incarnation(client: Client) -> None:
    _eventually(lambda: _at_rest(client), "cluster at rest")
    before = {worker.worker_id: worker for worker in client.status().workers}
    victim = before["decode-1"]
    os.kill(victim.pid, signal.SIGKILL)

    def back() -> bool:
        now = {worker.worker_id: worker for worker in client.status().workers}
        again = now.get("decode-1")
        return again is not None and again.incarnation > victim.incarnation and _at_rest(client)

    _eventually(back, "decode-1 restarted")
    assert client.generate("The capital of France is", max_tokens=8).usage.output_tokens == 8


def test_a_worker_killed_in_mid_stream_costs_no_token(cluster: LiveCluster, client: Client) -> None:
    prompt = "List the months of the year, one by one, and say what each is like. " * 6
    options = {"max_tokens": 96, "ignore_eos": True}
    undisturbed = client.generate(prompt, **options)
    _eventually(lambda: _at_rest(client), "cluster at rest")
    with client.stream(prompt, **options) as stream:
        for _ in range(8):
            next(stream)
        picture = client.status()
        running = next(r for r in picture.requests if r.request_id == stream.request_id)
        pid = next(w.pid for w in picture.workers if w.worker_id == running.worker_id)
        os.kill(pid, signal.SIGKILL)
        assert stream.result.token_ids == undisturbed.token_ids
    _eventually(lambda: _at_rest(client), "cluster whole again")


def test_interrupting_serve_leaves_no_process(tmp_path: Path) -> None:
    config = tmp_path / "cluster.toml"
    config.write_text(
        '[model]\npath = "demo"\n[[pools]]\nname = "mixed"\nrole = "mixed"\ncpus = 0.5\n'
        '[gateway]\nport = 0\n[ray]\naddress = "local"\n'
    )
    process = subprocess.Popen(
        [BIN / "splitweave", "serve", "--config", config],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "serving" in line:
            break
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("ray::" in _command(child) for child in family)
    process.send_signal(signal.SIGINT)
    process.wait(200)
    process.stderr.close()
    gone, alive = psutil.wait_procs(family, timeout=SETTLE_S)
    assert gone
    assert not alive
