"""Plants bugs one at a time, each in a copy of the source tree, and shows what catches it.

    make mutants                                every planted bug
    make mutants ARGS='--list'                  what there is
    make mutants ARGS='free-before-commit'      only those named
    make mutants ARGS='--jobs 1'                one at a time

First the commands run on an unmutated copy, where all of them must pass. Exit
status: 0 all were caught, 1 one survived, 2 they could not be tried.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH leaves it out

from mutant import FOLDER, BadMutant, Mutant, load_mutants
from mutant_copy import NotTheCopy, check_imported, snapshot
from mutant_table import Board, console, show_list
from mutant_trial import (
    COMMAND_S_MAX,
    Fate,
    Runner,
    Stopped,
    Verdict,
    check_unmutated,
    try_mutant,
    unmutated_commands,
)

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    try:
        mutants = _chosen(load_mutants(given.mutants), given.names)
        for mutant in mutants:
            mutant.mutated(given.root)
        if given.list:
            show_list(mutants)
            return 0
        with _terminated_as_interrupted(), tempfile.TemporaryDirectory(prefix="mutants-") as place:
            return _try_all(mutants, given, Path(place))
    except (BadMutant, NotTheCopy) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; every copy is removed")
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/mutants/run_mutants.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=COMMAND_S_MAX, metavar="SECONDS",
                        help="a command that runs longer hangs (default: %(default)s)")  # fmt: skip
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to mutate")
    parser.add_argument("--mutants", type=Path, default=FOLDER, help="the folder of the *.toml")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs ({given.jobs}) must be at least 1")
    return given


def _chosen(mutants: list[Mutant], names: list[str]) -> list[Mutant]:
    known = {mutant.name for mutant in mutants}
    if unknown := [name for name in names if name not in known]:
        raise BadMutant(f"no mutant is named {', '.join(unknown)}; --list shows all")
    return [mutant for mutant in mutants if not names or mutant.name in names]


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A plain kill cleans up, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _try_all(mutants: list[Mutant], given: argparse.Namespace, place: Path) -> int:
    stop = threading.Event()
    runner = Runner(stop, given.timeout)
    original = snapshot(given.root, place / "original")
    check_imported(original)
    with ThreadPoolExecutor(given.jobs) as pool:
        try:
            if problems := _unmutated_problems(mutants, original, runner, pool):
                console.print("Without any bug, this fails:", style="red")
                console.print(problems, markup=False, highlight=False, soft_wrap=True)
                return 2
            verdicts = _verdicts(mutants, original, runner, pool)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return 0 if all(verdict.fate is Fate.CAUGHT for verdict in verdicts) else 1


def _unmutated_problems(
    mutants: list[Mutant], original: Path, runner: Runner, pool: ThreadPoolExecutor
) -> str:
    check = partial(check_unmutated, tree=original, runner=runner)
    with console.status(f"the commands of {len(mutants)} mutants, without any bug"):
        return "\n".join(filter(None, pool.map(check, unmutated_commands(mutants))))


def _verdicts(
    mutants: list[Mutant], original: Path, runner: Runner, pool: ThreadPoolExecutor
) -> list[Verdict]:
    with Board(mutants) as board:

        def one(mutant: Mutant) -> Verdict:
            place = original.parent.parent
            with tempfile.TemporaryDirectory(dir=place, prefix=f"{mutant.name}-") as own:
                board.begin(mutant)
                return try_mutant(mutant, original, Path(own), runner)

        for done in as_completed([pool.submit(one, mutant) for mutant in mutants]):
            board.end(done.result())
    board.summary()
    return board.verdicts


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Stopped:
        sys.exit(130)
