"""Runs a mutant's commands in its own copy of the tree, and says what caught it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutant import Mutant
from mutant_copy import copy_for, environment

COMMAND_S_MAX = 180.0
UNMUTATED_TIMES = 5  # every test of every mutant at once may take so many times longer
TEST_S_MAX = 40  # one test that runs longer hangs
POLL_S = 0.05
SCENARIO = "examples/faults.toml"
FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - (.*))?$", re.MULTILINE)
FAILED_SEED = re.compile(r"^(seed \d+): (.*)$", re.MULTILINE)


class Stopped(Exception):
    """The person at the terminal wants no more."""


class Fate(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "survived"
    UNFIT = "unfit"  # no test could even run: that is no planted bug


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    mutant: Mutant
    fate: Fate
    by: str  # the test or the seed; why it is unfit; empty if it survived
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: by itself, or None if it was ended here. `timed_out`: too late."""

    status: int | None
    output: str
    timed_out: bool


class Runner:
    """Runs commands, each in a process group of its own that never outlives the call."""

    def __init__(self, stop: threading.Event, timeout_s: float = COMMAND_S_MAX) -> None:
        self._stop = stop
        self._timeout_s = timeout_s

    def run(
        self,
        command: list[str],
        tree: Path,
        *,
        until: re.Pattern[str] | None = None,
        patience: int = 1,
    ) -> Ended:
        """Ends with the command, when its output has `until`, or after its time."""
        deadline = time.monotonic() + patience * self._timeout_s
        with tempfile.TemporaryFile(dir=tree.parent) as file:
            process = subprocess.Popen(
                command, cwd=tree, env=environment(tree), stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                timed_out = self._wait(process, deadline, file.fileno(), until)
            finally:
                _kill_group(process)
            status = process.returncode
            return Ended(None if timed_out else status, _read(file.fileno()), timed_out)

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        deadline: float,
        output: int,
        until: re.Pattern[str] | None,
    ) -> bool:
        while process.poll() is None:
            if self._stop.wait(POLL_S):
                raise Stopped
            if time.monotonic() > deadline:
                return True
            if until is not None and until.search(_read(output)):
                return False
        return False


def _read(file: int) -> str:
    """All of it, without moving the place where the process writes."""
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_command(tests: tuple[str, ...], *, first_only: bool) -> list[str]:
    """Tests that plant bugs themselves are left out: they are about unmutated code."""
    pytest = str(Path(sys.executable).with_name("pytest"))
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", f"--timeout={TEST_S_MAX}"]
    options += ["--ignore-glob=*planted_bugs*", *(["-x"] if first_only else [])]
    return [pytest, *options, *tests]


def seed_command(seeds: int) -> list[str]:
    splitweave = str(Path(sys.executable).with_name("splitweave"))
    return [splitweave, "simulate", SCENARIO, "--seeds", str(seeds)]


def unmutated_commands(mutants: list[Mutant]) -> list[list[str]]:
    """What must pass without any bug: every test and every seed of these mutants."""
    tests = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
    seeds = max((mutant.seeds for mutant in mutants), default=0)
    commands = [test_command(tests, first_only=False)] if tests else []
    return commands + ([seed_command(seeds)] if seeds else [])


def check_unmutated(command: list[str], tree: Path, runner: Runner) -> str:
    """Why the command fails; empty if it passes."""
    ended = runner.run(command, tree, patience=UNMUTATED_TIMES)
    if ended.timed_out:
        return f"{' '.join(command)}\ndid not end in time"
    return "" if ended.status == 0 else f"{' '.join(command)}\n{ended.output[-4000:]}"


def try_mutant(mutant: Mutant, original: Path, place: Path, runner: Runner) -> Verdict:
    """Plant the bug into a copy of `original` below `place`, and look who sees it."""
    began = time.monotonic()
    tree = copy_for(mutant.file, original, place)
    mutant.plant(tree)
    fate, by = Fate.SURVIVED, ""
    if mutant.tests:
        fate, by = _seen_by_tests(runner.run(test_command(mutant.tests, first_only=True), tree))
    if fate is Fate.SURVIVED and mutant.seeds:
        ended = runner.run(seed_command(mutant.seeds), tree, until=FAILED_SEED)
        fate, by = _seen_by_seeds(ended)
    if fate is Fate.CAUGHT and "::" not in by:
        # Nothing ran as far as a test. A bug may show that early; a typing error is none.
        imported = runner.run([sys.executable, "-c", f"import {mutant.module}"], tree)
        if imported.status:
            fate, by = Fate.UNFIT, f"it cannot be imported:\n{imported.output[-2000:]}"
    return Verdict(mutant=mutant, fate=fate, by=by, seconds=time.monotonic() - began)


def _seen_by_tests(ended: Ended) -> tuple[Fate, str]:
    if ended.timed_out:
        return Fate.CAUGHT, "tests that hang"
    status = ended.status
    assert status is not None, ended
    if status == 0:
        return Fate.SURVIVED, ""
    if status < 0:
        return Fate.CAUGHT, f"tests that die of {signal.Signals(-status).name}"
    failed = FAILED_TEST.search(ended.output)
    if failed is None:
        return Fate.UNFIT, f"pytest exits with {status}:\n{ended.output[-2000:]}"
    test, why = failed.groups(default="")
    if "FailedHealthCheck" in why or "DeadlineExceeded" in why:
        return Fate.UNFIT, f"{test}: {why}"  # a slow machine, not the bug
    return Fate.CAUGHT, f"{test} (hangs)" if "Timeout" in why else test


def _seen_by_seeds(ended: Ended) -> tuple[Fate, str]:
    if ended.timed_out:
        return Fate.CAUGHT, "a seed that hangs"
    if failed := FAILED_SEED.search(ended.output):
        return Fate.CAUGHT, ": ".join(failed.groups())
    if ended.status == 0:
        return Fate.SURVIVED, ""
    return Fate.UNFIT, f"splitweave exits with {ended.status}:\n{ended.output[-2000:]}"
