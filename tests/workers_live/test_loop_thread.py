"""The worker's own event loop: it works beside its caller, and fails with its process."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from splitweave.workers.live.loop_thread import LoopThread

WAIT_S = 60.0
PRELUDE = """
import asyncio, logging, sys, threading
from splitweave.workers.live.loop_thread import LoopThread
logging.basicConfig(format="%(levelname)s %(message)s")
def fail(error):
    raise error
async def nothing():
    pass
async def broken():
    raise RuntimeError("no model")
"""


@pytest.fixture
def started() -> Iterator[LoopThread]:
    async def nothing() -> None:
        pass

    thread = LoopThread("test", nothing)
    yield thread
    thread.call_soon(thread.loop.stop)
    thread._thread.join(WAIT_S)
    thread.loop.close()


def test_main_runs_on_the_loop_in_a_thread_of_its_own() -> None:
    seen: list[object] = []
    ran = threading.Event()

    async def main() -> None:
        seen.extend([threading.current_thread().name, asyncio.get_running_loop()])
        ran.set()

    thread = LoopThread("mine", main)
    assert ran.wait(WAIT_S)
    assert seen == ["mine", thread.loop]
    thread.call_soon(thread.loop.stop)
    thread._thread.join(WAIT_S)
    thread.loop.close()


def test_callbacks_run_in_the_order_they_came_in(started: LoopThread) -> None:
    seen: list[int] = []
    for number in range(100):
        started.call_soon(seen.append, number)

    async def after_all() -> list[int]:
        return list(seen)

    assert started.result(after_all(), WAIT_S) == list(range(100))


def test_result_gives_the_value_the_error_or_a_timeout(started: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("why")

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(KeyError, match="why"):
        started.result(fail(), WAIT_S)
    with pytest.raises(TimeoutError):
        started.result(never(), 0.01)


def test_a_callback_after_the_loop_has_closed_is_dropped(started: LoopThread) -> None:
    started.call_soon(started.loop.stop)
    started._thread.join(WAIT_S)
    started.loop.close()
    started.call_soon(pytest.fail)


def start(script: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PRELUDE + script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# What happens in the thread, and what the process says of it as it ends.
ENDINGS = {
    "LoopThread('x', broken)": "CRITICAL start failed",
    "LoopThread('x', nothing).call_soon(fail, ValueError('no step'))": "ValueError: no step",
    "LoopThread('x', nothing).call_soon(fail, AssertionError('core'))": "AssertionError: core",
}
SURVIVED = "LoopThread('x', nothing).call_soon(fail, ConnectionError('peer'))"


def test_a_failure_on_the_loop_ends_the_process_with_its_reason_and_a_lost_peer_does_not() -> None:
    running = {
        script: start(f"{script}\nthreading.Event().wait(300)\nprint('outlived')")
        for script in ENDINGS
    }
    after = "\nthread.result(nothing(), 200)\nprint('goes on')"
    survivor = start(
        SURVIVED.replace("LoopThread('x', nothing)", "thread").join(
            ["thread = LoopThread('x', nothing)\n", after]
        )
    )
    for script, process in running.items():
        out, error = process.communicate(timeout=290)
        assert (process.returncode, out) == (1, ""), script
        assert ENDINGS[script] in error
        assert "CRITICAL" in error
    out, error = survivor.communicate(timeout=290)
    assert (survivor.returncode, out) == (0, "goes on\n"), error
    assert "WARNING loop:" in error
