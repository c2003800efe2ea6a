"""`ray job submit -- splitweave serve` on a local Ray with token authentication."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from splitweave.client import Client, RetryPolicy
from splitweave.cluster.live.gateways import free_ports

BIN = Path(sys.executable).parent
START_S = 600


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A Ray of its own: own token, own folder, nothing of the session's cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONSAFEPATH": "1",
    }


@pytest.fixture
def dashboard(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    gcs, port, clients, agent = free_ports(4)
    # Not below tmp_path: Ray's socket names must stay within 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-")
    head = [
        BIN / "ray", "start", "--head", "--block", "--num-cpus=4", f"--port={gcs}",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
        "--node-ip-address=127.0.0.1", "--disable-usage-stats",
        f"--ray-client-server-port={clients}", f"--dashboard-agent-listen-port={agent}",
        "--temp-dir", folder,
    ]  # fmt: skip
    process = subprocess.Popen(
        head, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield f"http://127.0.0.1:{port}"
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=100)
    process.wait(100)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_submitted_job_serves_a_request_from_another_process(
    dashboard: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    config = tmp_path / "cluster.toml"
    config.write_text(
        '[model]\npath = "demo"\n[[pools]]\nname = "mixed"\nrole = "mixed"\ncpus = 0.5\n'
        f"[gateway]\nport = {port}\n"
    )
    submit = [BIN / "ray", "job", "submit", "--no-wait", "--address", dashboard, "--",
              BIN / "splitweave", "serve", "--config", config]  # fmt: skip
    _until_accepted([str(part) for part in submit], environment)
    patient = RetryPolicy(tries_max=2_000, backoff_max_s=0.5)
    with Client(f"127.0.0.1:{port}", retry=patient, timeout_s=START_S) as client:
        result = client.generate("The capital of France is", max_tokens=8)
    assert "Paris" in result.text
    assert _list_jobs(dashboard, environment) == 0
    stranger = environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    assert _list_jobs(dashboard, stranger) != 0


def _list_jobs(dashboard: str, environment: dict[str, str]) -> int:
    """The exit status of `ray job list` with that token."""
    command = [BIN / "ray", "job", "list", "--address", dashboard]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode


def _until_accepted(command: list[str], environment: dict[str, str]) -> None:
    """The dashboard takes some seconds to listen."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=START_S, check=False
        )
        if done.returncode == 0:
            return
    pytest.fail(f"ray job submit never succeeded:\n{done.stdout}\n{done.stderr}")
