"""The style's hard stops, held over every hand-written source file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT, nodes, our_files, package_files, text

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

VAGUE_FILES = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})
VAGUE_CLASS = re.compile(r"(Helper|Manager|Registry|Utils?)$")
# Whole words of an identifier, and the glossary's word for each.
BANNED_WORDS = {
    "dst": "target",
    "mgr": "say what it does",
    "req": "request",
    "reqs": "requests",
    "rid": "request_id",
    "src": "source",
    "wid": "worker_id",
}
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
# Only a shell's outermost loop may catch everything: there it logs, counts, and goes on.
MAY_CATCH_EVERYTHING = re.compile(r"^(cluster|workers)/live/|^examples/|^benchmarks/")
CATCHES_EVERYTHING = frozenset({"BaseException", "Exception"})


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def names_bound(node: ast.AST) -> Iterator[str]:
    """Names that this node introduces; what others named is not ours to judge."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.ClassDef(name=name) | ast.arg(arg=name):
            yield name
        case ast.alias(asname=str(name)):
            yield name


def exceptions_caught(node: ast.ExceptHandler) -> set[str]:
    if node.type is None:
        return {"BaseException"}
    return {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}


def test_there_is_something_to_hold() -> None:
    assert len(package_files()) > 10


def test_no_file_exceeds_400_lines() -> None:
    sizes = {str(path): len(text(path).splitlines()) for path in our_files()}
    assert {path: size for path, size in sizes.items() if size > FILE_LINES_MAX} == {}


def test_no_function_exceeds_60_lines() -> None:
    too_long = [
        f"{path}:{node.lineno} {node.name}: {lines_of(node)}"
        for path in our_files()
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and lines_of(node) > FUNCTION_LINES_MAX
    ]
    assert too_long == []


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    vague = [str(path) for path in our_files() if VAGUE_FILES & {path.stem, *path.parent.parts}]
    assert vague == []


def test_no_class_has_a_name_that_says_nothing() -> None:
    vague = [
        f"{path}:{node.lineno} {node.name}"
        for path in our_files()
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name)
    ]
    assert vague == []


def test_nothing_is_marked_unfinished() -> None:
    marked = [
        f"{path}:{number}"
        for path in our_files()
        for number, line in enumerate(text(path).splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marked == []


def test_only_shells_catch_everything() -> None:
    caught = [
        f"{path}:{node.lineno}"
        for path in package_files()
        if not MAY_CATCH_EVERYTHING.search(path.as_posix())
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and CATCHES_EVERYTHING & exceptions_caught(node)
    ]
    assert caught == []


def test_names_use_the_glossary() -> None:
    banned = [
        f"{path}:{getattr(node, 'lineno', '?')} {name}: say {BANNED_WORDS[word]}"
        for path in our_files()
        for node in nodes(path)
        for name in names_bound(node)
        for word in name.lower().split("_")
        if word in BANNED_WORDS
    ]
    assert banned == []


def test_inside_the_package_imports_are_relative() -> None:
    absolute = [
        f"{path}:{node.lineno}"
        for path in package_files()
        for node in nodes(path)
        if (isinstance(node, ast.ImportFrom) and node.level == 0 and is_ours(node.module or ""))
        or (isinstance(node, ast.Import) and any(is_ours(name.name) for name in node.names))
    ]
    assert absolute == []


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "splitweave"


def test_every_module_of_the_package_opens_with_a_docstring() -> None:
    silent = [
        str(path)
        for path in package_files()
        if text(path).strip() and ast.get_docstring(ast.parse(text(path))) is None
    ]
    assert silent == []


def test_documents_are_finished_and_their_links_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages()
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    unfinished = [str(page) for page in pages() if UNFINISHED.search(page.read_text())]
    assert (broken, unfinished) == ([], [])


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md")])


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
