"""The processes of a fuzz end with the one that started them, however it ends."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

FUZZ = "from splitweave.sim.cli import fuzz; fuzz(None, seeds=100_000, jobs=2)"
WAIT_S = 100.0  # a busy machine takes long to start three interpreters


def _started(process: psutil.Process, count: int) -> list[psutil.Process]:
    """Its children, once `count` of them run seeds."""
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        children = process.children(recursive=True)
        if sum(child.num_threads() > 1 for child in children) >= count:
            return children
        time.sleep(0.1)
    raise AssertionError(f"{count} processes did not start within {WAIT_S} s")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", FUZZ], stdout=subprocess.DEVNULL) as process:
        children: list[psutil.Process] = []
        try:
            children = _started(psutil.Process(process.pid), 2)
            process.send_signal(how)
            assert process.wait(WAIT_S) == -how
            _, alive = psutil.wait_procs(children, timeout=WAIT_S)
            assert alive == []
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
