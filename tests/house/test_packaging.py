"""What is built is what is there, and what CI ran is written down."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import PACKAGE_FOLDERS, ROOT, nodes, package_files, pyproject, text
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", text(Path("constraints.txt")), re.MULTILINE
    )
}


def requirements() -> list[Requirement]:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in extras if name != "bench")]
    return [Requirement(line) for lines in lists for line in lines]


def test_every_folder_of_the_package_is_listed_and_is_a_package() -> None:
    folders = {
        path.parent.relative_to(ROOT)
        for folder in PACKAGE_FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    names = {".".join(("splitweave", *folder.parts)) for folder in folders} | {"splitweave"}
    assert sorted(names) == sorted(pyproject()["tool"]["setuptools"]["packages"])
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []


def test_the_base_install_names_neither_ray_nor_torch() -> None:
    base = {Requirement(line).name for line in pyproject()["project"]["dependencies"]}
    assert base.isdisjoint({"numba", "ray", "torch", "transformers", "triton"})


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    version = PINS.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in constraints.txt"
    assert version in requirement.specifier


def modules_imported(path: Path) -> set[str]:
    """Top-level modules that a file imports from outside the package, stdlib aside."""
    found = set()
    for node in nodes(path):
        match node:
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
            case ast.Import(names=names):
                found |= {name.name.partition(".")[0] for name in names}
    return found - sys.stdlib_module_names - {"splitweave"}


def test_every_import_of_the_package_is_of_a_declared_requirement() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    owners = {
        module: {canonicalize_name(name) for name in names}
        for module, names in importlib.metadata.packages_distributions().items()
    }
    stray = [
        f"{path}: {module}"
        for path in package_files()
        for module in modules_imported(path)
        if declared.isdisjoint(owners.get(module, set()))
    ]
    assert stray == []


def test_pins_are_plain_versions() -> None:
    lines = [line for line in text(Path("constraints.txt")).splitlines() if line[:1] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.mark.parametrize("name", ["cluster", "kernels", "proto", "sim", "workers"])
def test_no_folder_of_ours_answers_to_its_bare_name(name: str) -> None:
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    assert [place for place in places if place and Path(place).is_relative_to(ROOT / name)] == []


def test_the_command_explains_itself() -> None:
    command = Path(sys.executable).parent / "splitweave"
    answer = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert "simulate" in answer.stdout
