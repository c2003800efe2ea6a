"""What a core may not do, read from its source."""

import ast
from pathlib import Path

import pytest
import splitweave.workers.core
from fleet import Fleet
from parts import MS

FOLDER = Path(splitweave.workers.core.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
FORBIDDEN = {"asyncio", "logging", "os", "random", "ray", "socket", "threading", "time", "torch"}


def names_imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def is_set(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return isinstance(node, ast.Set | ast.SetComp) or (
        called and node.func.id in ("set", "frozenset")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_clock_no_chance_no_threads_no_system(path: Path) -> None:
    assert not names_imported(ast.parse(path.read_text())) & FORBIDDEN


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_set_is_made_so_none_is_iterated(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr) and is_set(node)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_caught_and_nothing_global_changes(path: Path) -> None:
    tree = ast.parse(path.read_text())
    kinds = (ast.Try, ast.Global, ast.Nonlocal)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, kinds)]


def test_the_same_events_give_the_same_effects() -> None:
    def effects() -> list[str]:
        fleet = Fleet("ab")
        seen: list[str] = []
        fleet.on_step = lambda worker, event, made: seen.append(repr(made))
        fleet.ask("a", "r", list(range(30)), 20, handoff="b")
        fleet.ask("b", "s", list(range(40)), 20)
        fleet.run(9 * MS)
        fleet.migrate("s", "b", "a")
        fleet.run_until_done()
        return seen

    assert effects() == effects()
