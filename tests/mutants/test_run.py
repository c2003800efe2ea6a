"""The runner, on a tree of two files: what it calls caught, survived and unfit; what it leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mutant_trial
import psutil
import pytest
import run_mutants as run
from mutant import FOLDER
from mutant_copy import NotTheCopy, check_imported, copy_for, environment, snapshot

SUMS = '''
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b

def twice(a: int) -> int:
    return add(a, a)
'''
TESTS = """
from splitweave.sums import add, twice

FOUR = [add(2, 2)]
assert FOUR != [5]

def test_the_sum_of_two_and_three_is_five() -> None:
    assert add(2, 3) == 5

def test_twice_two_is_four() -> None:
    assert twice(2) == 4
"""
CONFIG = "[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n"
HANG = """import os, time
    open(os.environ['HANGS'], 'w').write(str(os.getpid()))
    time.sleep(600)"""
BUGS = {
    "caught": ("return a + b", "return a * b"),
    "survivor": ("The sum.", "The difference."),
    "seen-as-collected": ("return a + b", "return a + b + 1"),
    "unfit": ("def twice", "missing\n\ndef twice"),
    "deadly": ("return add(a, a)", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    "endless": ("return add(a, a)", HANG),
}


@pytest.fixture
def tree(tmp_path: Path) -> list[str]:
    """Options that name a small tree and its mutants."""
    root, mutants = tmp_path / "tree", tmp_path / "mutants"
    for folder in (root / "tests", mutants, tmp_path / "temporary"):
        folder.mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "sums.py").write_text(SUMS)
    (root / "pyproject.toml").write_text(CONFIG)
    (root / "tests" / "test_sums.py").write_text(TESTS)
    tables = [
        f'[[mutant]]\nname = "{name}"\nbreaks = "B."\nfile = "sums.py"\n'
        f'old = """{old}"""\nnew = """{new}"""\n'
        for name, (old, new) in BUGS.items()
    ]
    (mutants / "all.toml").write_text('tests = ["tests"]\n' + "".join(tables))
    return ["--root", str(root), "--mutants", str(mutants)]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies go; nothing may be left there."""
    folder = tmp_path / "temporary"
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("HANGS", str(tmp_path / "hangs"))
    return folder


def test_each_verdict_is_what_happened(
    tree: list[str], temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["caught", "survivor", "seen-as-collected", "unfit", "deadly"]
    assert run.main([*tree, *names]) == 1
    said = capsys.readouterr().out
    verdicts = {line.split()[3]: line.split() for line in said.splitlines() if " s  " in line}
    assert {name: verdicts[name][0] for name in names} == {
        "caught": "caught",
        "survivor": "survived",
        "seen-as-collected": "caught",
        "unfit": "unfit",
        "deadly": "caught",
    }
    assert verdicts["caught"][-1] == "tests/test_sums.py::test_the_sum_of_two_and_three_is_five"
    assert verdicts["seen-as-collected"][-1] == "tests/test_sums.py"
    assert verdicts["deadly"][-1] == "SIGSEGV"
    assert "survivor survived: B. (sums.py)\n- The sum.\n+ The difference." in said
    assert "3 caught, 1 survived, 1 unfit" in said
    assert list(temporary.iterdir()) == []


def test_all_caught_is_success(tree: list[str]) -> None:
    assert run.main([*tree, "caught"]) == 0


def test_a_hang_is_a_catch(
    tree: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutant_trial, "UNMUTATED_TIMES", 60)
    assert run.main([*tree, "--timeout", "4", "endless"]) == 0
    assert "tests that hang" in capsys.readouterr().out


def test_commands_that_fail_without_any_bug_try_no_mutant(
    tree: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(tree[1]) / "tests" / "test_sums.py").write_text("def test_it() -> None:\n    assert 0\n")
    assert run.main([*tree, "survivor"]) == 2
    said = capsys.readouterr().out
    assert "Without any bug, this fails" in said
    assert "test_sums.py::test_it" in said


def test_an_unknown_name_is_refused(tree: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*tree, "cought"]) == 2
    assert capsys.readouterr().out == "no mutant is named cought; --list shows all\n"


def test_the_list_runs_nothing(tree: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*tree, "--list"]) == 0
    said = capsys.readouterr().out
    assert [name for name in BUGS if name not in said] == []


def test_a_mutant_that_does_not_fit_is_told_before_anything_runs(
    tree: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(tree[1]) / "sums.py").write_text("")
    assert run.main([*tree, "caught"]) == 2
    assert "caught: its old text is 0 times in sums.py, not once" in capsys.readouterr().out


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_ends_every_process_and_removes_every_copy(
    tree: list[str], tmp_path: Path, temporary: Path, signal_number: int
) -> None:
    command = [sys.executable, str(FOLDER / "run_mutants.py"), *tree, "endless"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    hangs = tmp_path / "hangs"
    while not (hangs.exists() and hangs.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal_number)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    assert said == "stopped; every copy is removed\n"
    assert not psutil.pid_exists(int(hangs.read_text()))
    assert list(temporary.iterdir()) == []


def test_a_copy_is_what_python_imports(tree: list[str], tmp_path: Path) -> None:
    check_imported(snapshot(Path(tree[1]), tmp_path / "copy"))


def test_another_package_of_the_name_is_noticed(tree: list[str], tmp_path: Path) -> None:
    copy = snapshot(Path(tree[1]), tmp_path / "copy")
    elsewhere = copy.rename(tmp_path / "elsewhere")
    with pytest.raises(NotTheCopy, match="import splitweave finds"):
        check_imported(elsewhere)


def test_a_kernels_mutant_starts_without_compiled_kernels(tmp_path: Path) -> None:
    compiled = tmp_path / "original" / "kernels" / "__pycache__"
    compiled.mkdir(parents=True)
    for name in ("rows.nbi", "rows.1.nbc", "rows.pyc"):
        (compiled / name).touch()
    kept = {
        file: sorted(path.name for path in copy_for(file, compiled.parents[1], place).rglob("*.*"))
        for file, place in {"kernels/a.py": tmp_path / "a", "client/b.py": tmp_path / "b"}.items()
    }
    assert kept == {
        "kernels/a.py": ["rows.pyc"],
        "client/b.py": ["rows.1.nbc", "rows.nbi", "rows.pyc"],
    }


def test_settings_of_numba_do_not_reach_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/shared")
    assert "NUMBA_CACHE_DIR" not in environment(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == "/shared"
