"""A planted bug, as data: one short text of one source file, and what stands there instead."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NAMED = ("name", "breaks", "file", "old", "new")


class BadMutant(Exception):
    """A mutant that cannot be planted; says which one and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`breaks` says in one sentence what goes wrong; `tests` and `seeds` shall see it.

    `tests` are what pytest takes: folders, files, files::tests. `seeds` is how many
    of examples/faults.toml are simulated if the tests see nothing.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    seeds: int = 0

    @property
    def module(self) -> str:
        """The name by which its file is imported."""
        return ".".join(("splitweave", *Path(self.file).with_suffix("").parts))

    def mutated(self, root: Path) -> str:
        """The file's text with the bug in it. BadMutant if that is not possible."""
        path = root / self.file
        if not path.is_file():
            raise BadMutant(f"{self.name}: {self.file} does not exist")
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise BadMutant(f"{self.name}: its old text is {count} times in {self.file}, not once")
        mutated = text.replace(self.old, self.new)
        try:
            compile(mutated, self.file, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise BadMutant(f"{self.name}: {self.file} does not compile: {error}") from error
        return mutated

    def plant(self, root: Path) -> None:
        """Put the bug into the tree at `root`."""
        (root / self.file).write_text(self.mutated(root), encoding="utf-8")


def load_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """All of `folder`'s *.toml. A file's own `tests` and `seeds` are its mutants' defaults."""
    mutants = [
        _mutant(path, table, defaults)
        for path in sorted(folder.glob("*.toml"))
        for defaults in [tomllib.loads(path.read_text(encoding="utf-8"))]
        for table in defaults["mutant"]
    ]
    names = [mutant.name for mutant in mutants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadMutant(f"two mutants have the name {', '.join(twice)}")
    return mutants


def _mutant(path: Path, table: dict[str, Any], defaults: dict[str, Any]) -> Mutant:
    name = table.get("name", "a mutant without a name")
    if unknown := sorted(table.keys() - {*NAMED, "tests", "seeds"}):
        raise BadMutant(f"{path.name}: {name} has unknown keys: {', '.join(unknown)}")
    if missing := [key for key in NAMED if key not in table]:
        raise BadMutant(f"{path.name}: {name} lacks {', '.join(missing)}")
    return Mutant(
        **{key: table[key] for key in NAMED},
        tests=tuple(table.get("tests", defaults.get("tests", ()))),
        seeds=table.get("seeds", defaults.get("seeds", 0)),
    )
