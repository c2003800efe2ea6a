"""The checkout as the house rules see it: its folders and its source files."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE_FOLDERS = ("client", "cluster", "kernels", "proto", "sim", "workers")
OTHER_FOLDERS = ("benchmarks", "examples", "tests")


def is_generated(path: Path) -> bool:
    return "_pb2" in path.stem


def python_files(*folders: str) -> list[Path]:
    """Hand-written source below the folders, relative to the root, sorted."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found if not is_generated(path))


def package_files() -> list[Path]:
    return [Path("__init__.py"), *python_files(*PACKAGE_FOLDERS)]


def our_files() -> list[Path]:
    return [*package_files(), *python_files(*OTHER_FOLDERS)]


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(text(path), filename=str(path)))


def code_lines(paths: list[Path]) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for path in paths for line in text(path).splitlines())


def pyproject() -> dict[str, Any]:
    return tomllib.loads(text(Path("pyproject.toml")))
