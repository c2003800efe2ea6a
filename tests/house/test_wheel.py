"""A wheel holds the package whole, and nothing of its surroundings."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT, package_files

LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "dist")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths inside a wheel that is built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_BEHIND)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", folder, folder / "checkout"], check=True, timeout=300)
    (wheel,) = folder.glob("splitweave-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_module(wheel_names: set[str]) -> None:
    assert {f"splitweave/{path.as_posix()}" for path in package_files()} - wheel_names == set()


def test_the_wheel_holds_stubs_types_and_protos(wheel_names: set[str]) -> None:
    protos = [path.name for path in (ROOT / "proto").iterdir() if path.suffix in {".proto", ".pyi"}]
    assert {f"splitweave/proto/{name}" for name in protos} <= wheel_names
    assert "splitweave/py.typed" in wheel_names


def test_the_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    tops = {Path(name).parts[:2] for name in wheel_names if name.startswith("splitweave/")}
    strangers = {"tests", "docs", "benchmarks", "examples", "helm"} & {top[1] for top in tops}
    assert strangers == set()
    assert {Path(name).parts[0] for name in wheel_names} == {
        "splitweave",
        next(name for name in wheel_names if name.endswith("METADATA")).split("/")[0],
    }
