"""Who may import whom: the contracts hold, and each of them can fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, package_files, pyproject

LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"

# A module, the line that is planted in it, and the start of the contract it breaks.
PLANTS = [
    ("proto/ids.py", "from .. import client", "proto stands"),
    ("client/__init__.py", "from .. import sim", "client stands"),
    ("kernels/__init__.py", "from ..proto import ids", "kernels stand"),
    ("workers/models/__init__.py", "from .. import live", "workers.models stands"),
    ("workers/core/__init__.py", "from .. import models", "workers.core stands"),
    ("workers/live/__init__.py", "from ...cluster import core", "workers.live stands"),
    ("cluster/policy/__init__.py", "from .. import core", "cluster.policy stands"),
    ("cluster/core/__init__.py", "from ...workers import core", "cluster.core stands"),
    ("cluster/live/__init__.py", "from ... import kernels", "cluster.live starts"),
    ("cluster/core/__init__.py", "import time", "the cores and the policies"),
    ("cluster/policy/__init__.py", "from random import random", "the cores and the policies"),
    ("workers/core/__init__.py", "import asyncio", "the cores and the policies"),
    ("sim/__init__.py", "import torch", "sim stands"),
    ("sim/__init__.py", "from ..workers import live", "sim stands"),
    ("cluster/live/__init__.py", "from ... import sim", "no cycle"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copied_package(tmp_path: Path) -> Path:
    """Our source as a plain package below a folder of its own."""
    for path in package_files():
        copy = tmp_path / "splitweave" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copied_package: Path) -> None:
    done = lint_imports(copied_package)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_planted_import_breaks_its_contract(copied_package: Path) -> None:
    for name, line, _ in PLANTS:
        with (copied_package / "splitweave" / name).open("a") as module:
            module.write(f"\n{line}\n")
    broken = {line for line in lint_imports(copied_package).stdout.splitlines() if "BROKEN" in line}
    for name, line, contract in PLANTS:
        assert any(entry.startswith(contract) for entry in broken), f"{line!r} in {name}: {broken}"


def test_every_contract_has_a_plant() -> None:
    contracts = {contract["name"] for contract in pyproject()["tool"]["importlinter"]["contracts"]}
    starts = tuple(contract for _, _, contract in PLANTS)
    assert {contract for contract in contracts if not contract.startswith(starts)} == set()
