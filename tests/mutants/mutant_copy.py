"""Copies of the source tree that import as `splitweave`, ahead of the installed one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# The copy's folder has the package's name, so its parent on PYTHONPATH is all it takes.
NAME = "splitweave"
LEFT_OUT = (".git", ".venv", "__pycache__", "build", "dist", "transcripts", ".*_cache", "*.gguf")
COMPILED_KERNELS = ("*.nbi", "*.nbc")


class NotTheCopy(Exception):
    """Python imports another `splitweave` than the copy."""


def snapshot(root: Path, place: Path) -> Path:
    """A copy of the tree at `root` below `place`, without what tools and runs leave."""
    return Path(shutil.copytree(root, place / NAME, ignore=shutil.ignore_patterns(*LEFT_OUT)))


def copy_for(file: str, original: Path, place: Path) -> Path:
    """A copy of a snapshot in which `file` may change.

    Bytecode comes along: Python tells by a file's time and size that it is stale. Numba
    looks at the file of a kernel only, not at those of the functions it has inlined, so
    a change below kernels/ starts without compiled kernels.
    """
    patterns = COMPILED_KERNELS if file.startswith("kernels/") else ()
    return Path(shutil.copytree(original, place / NAME, ignore=shutil.ignore_patterns(*patterns)))


def environment(tree: Path) -> dict[str, str]:
    """For processes that shall import `tree`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    return {
        **kept,
        "PYTHONPATH": str(tree.parent),
        "PYTHONSAFEPATH": "1",
        "COLUMNS": "240",  # no seed's line is broken
        "CI": "1",  # Hypothesis then takes no slow machine for a failure
    }


def check_imported(tree: Path) -> None:
    """Raises NotTheCopy if Python finds another one."""
    script = f"import {NAME}; print({NAME}.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tree), cwd=tree, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    if Path(found).resolve() != (tree / "__init__.py").resolve():
        raise NotTheCopy(f"import {NAME} finds {found}, not {tree}")
