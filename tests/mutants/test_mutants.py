"""The planted bugs fit the source as it is. What catches them is shown by `make mutants`."""

import re
from pathlib import Path

import pytest
from checkout import ROOT
from mutant import BadMutant, Mutant, load_mutants

MUTANTS = load_mutants()
LAYERS = (
    "client", "cluster/core", "cluster/live/front", "kernels/cpu", "proto", "workers/core",
    "workers/live/transport", "workers/models",
)  # fmt: skip
MUTANT = """
[[mutant]]
name = "m"
breaks = "It breaks."
file = "a.py"
old = "x = 1"
new = "x = 2"
"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_of_its_file_and_compiles(mutant: Mutant) -> None:
    original = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.mutated(ROOT) != original


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_shall_catch_a_mutant_exists(mutant: Mutant) -> None:
    assert mutant.tests or mutant.seeds
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), f"{test} does not exist"
        if name:
            found = re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
            assert found, f"{test} does not exist"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_says_in_a_sentence_what_it_breaks(mutant: Mutant) -> None:
    assert re.fullmatch(r"[A-Z][^\n]{10,}\.", mutant.breaks)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant.name)


def test_every_layer_has_a_mutant() -> None:
    assert len(MUTANTS) >= 24
    bare = [layer for layer in LAYERS if not any(m.file.startswith(layer) for m in MUTANTS)]
    assert bare == []


def mutant_of(tmp_path: Path, source: str, text: str = MUTANT) -> Mutant:
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "a.toml").write_text(text)
    (mutant,) = load_mutants(tmp_path)
    return mutant


def test_planting_replaces_the_old_text(tmp_path: Path) -> None:
    mutant_of(tmp_path, "y = 0\nx = 1\n").plant(tmp_path)
    assert (tmp_path / "a.py").read_text() == "y = 0\nx = 2\n"


@pytest.mark.parametrize("source", ["", "x = 1\nx = 1\n"])
def test_an_old_text_that_is_not_there_once_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(BadMutant, match=r"m: its old text is [02] times in a\.py, not once"):
        mutant_of(tmp_path, source).mutated(tmp_path)


def test_a_mutant_that_does_not_compile_is_refused(tmp_path: Path) -> None:
    mutant = mutant_of(tmp_path, "x = 1\n", MUTANT.replace("x = 2", "x = ("))
    with pytest.raises(BadMutant, match=r"m: a\.py does not compile"):
        mutant.mutated(tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    mutant = mutant_of(tmp_path, "x = 1\n")
    (tmp_path / "a.py").unlink()
    with pytest.raises(BadMutant, match=r"m: a\.py does not exist"):
        mutant.mutated(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MUTANT + MUTANT, "two mutants have the name m"),
        (MUTANT.replace("breaks", "brakes"), "a.toml: m has unknown keys: brakes"),
        (MUTANT.replace('new = "x = 2"', ""), "a.toml: m lacks new"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadMutant, match=said):
        mutant_of(tmp_path, "x = 1\n", text)


def test_a_files_own_tests_are_its_mutants_default(tmp_path: Path) -> None:
    own = MUTANT.replace('"m"', '"n"') + 'tests = ["b"]\nseeds = 3\n'
    (tmp_path / "a.toml").write_text('tests = ["a"]\nseeds = 7\n' + MUTANT + own)
    found = [(mutant.tests, mutant.seeds) for mutant in load_mutants(tmp_path)]
    assert found == [(("a",), 7), (("b",), 3)]
