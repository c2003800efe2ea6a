"""A config file's errors name the file, the whole key, and what would have been allowed."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from splitweave.proto.toml_file import ConfigError, build, load, read
from splitweave.proto.views import Role

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fixed:
    kind: Literal["fixed"]
    tokens: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Uniform:
    kind: Literal["uniform"]
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) exceeds high ({self.high})")


Length = Annotated[Fixed | Uniform, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Link:
    link_bytes_per_s: Annotated[float, Field(gt=0)] = 1.0
    length: Length | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pool:
    name: str
    role: Role = Role.MIXED
    count: int = Field(default=1, ge=1, le=9)
    link: Link = Field(default_factory=Link)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class House:
    pools: list[Pool]
    spare: Link | None = None
    fixed: tuple[Link, ...] = ()
    pair: tuple[Link, Link] | None = None
    named: dict[str, Link] = Field(default_factory=dict)
    output: Length | None = None
    mixed: list[Length] = Field(default_factory=list)


POOL = {"name": "p"}
FIXED = {"kind": "fixed", "tokens": 1}
IN_LINK = "; did you mean link_bytes_per_s? (known here: link_bytes_per_s, length)"
IN_POOL = " (known here: name, role, count, link)"
IN_FIXED = "; did you mean tokens? (known here: kind, tokens)"
TYPO = {"link_bytes": 1}


def refusal(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        build(House, tables, "house.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"poools": [POOL]}, "unknown key poools; did you mean pools? (known here: pools, spare"),
        ({"pools": [POOL | {"rol": 1}]}, "unknown key pools[0].rol; did you mean role?" + IN_POOL),
        ({"pools": [POOL, POOL | {"zzz": 1}]}, "unknown key pools[1].zzz" + IN_POOL),
        ({"pools": [POOL | {"link": TYPO}]}, "unknown key pools[0].link.link_bytes" + IN_LINK),
        ({"spare": TYPO}, "unknown key spare.link_bytes" + IN_LINK),
        ({"fixed": [{}, TYPO]}, "unknown key fixed[1].link_bytes" + IN_LINK),
        ({"pair": [{}, TYPO]}, "unknown key pair[1].link_bytes" + IN_LINK),
        ({"named": {"a": TYPO}}, "unknown key named.a.link_bytes" + IN_LINK),
        ({"named": {"fixed": TYPO}}, "unknown key named.fixed.link_bytes" + IN_LINK),
        ({"output": FIXED | {"token": 1}}, "unknown key output.token" + IN_FIXED),
        ({"mixed": [FIXED | {"token": 1}]}, "unknown key mixed[0].token" + IN_FIXED),
        ({"spare": {"length": FIXED | {"token": 1}}}, "unknown key spare.length.token" + IN_FIXED),
        (
            {"mixed": [{"kind": "uniform", "low": 1, "high": 2, "hight": 1}]},
            "unknown key mixed[0].hight; did you mean high? (known here: kind, low, high)",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_an_unknown_key_is_named_in_full_with_the_keys_known_there(
    tables: dict[str, Any], message: str
) -> None:
    assert message in refusal({"pools": []} | tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "house.toml: missing key pools"),
        ({"pools": [{}]}, "house.toml: missing key pools[0].name"),
        ({"pools": [], "pair": [{}]}, "house.toml: missing key pair[1]"),
        ({"pools": [], "output": {"kind": "fixed"}}, "missing key output.tokens"),
    ],
)
def test_a_missing_key_is_named_in_full(tables: dict[str, Any], message: str) -> None:
    assert message in refusal(tables)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"count": 0}, "pools[0].count: Input should be greater than or equal to 1 (got 0)"),
        ({"count": 10}, "pools[0].count: Input should be less than or equal to 9 (got 10)"),
        ({"count": "3"}, "pools[0].count: Input should be a valid integer (got '3')"),
        ({"count": 1.5}, "pools[0].count: Input should be a valid integer"),
        ({"count": True}, "pools[0].count: Input should be a valid integer (got True)"),
        ({"name": 3}, "pools[0].name: Input should be a valid string (got 3)"),
        ({"role": "cook"}, "pools[0].role: Input should be 'prefill', 'decode' or 'mixed'"),
        ({"link": {"link_bytes_per_s": -1.0}}, "pools[0].link.link_bytes_per_s: Input should be"),
        ({"link": 3}, "pools[0].link: "),
    ],
)
def test_a_wrong_value_is_refused_with_its_limit_and_shown(
    tables: dict[str, Any], message: str
) -> None:
    assert refusal({"pools": [POOL | tables]}).startswith(f"house.toml: {message}")


def test_a_rule_of_the_class_itself_is_told_in_its_own_words() -> None:
    spoiled = {"kind": "uniform", "low": 3, "high": 2}
    assert "low (3) exceeds high (2)" in refusal({"pools": [], "mixed": [spoiled]})


def test_a_wrong_kind_is_refused_with_the_kinds_there_are() -> None:
    text = refusal({"pools": [], "output": {"kind": "normal"}})
    assert text.startswith("house.toml: output: ")
    assert "'fixed', 'uniform'" in text


def test_every_error_is_told_one_a_line_each_with_the_file() -> None:
    lines = refusal({"pools": [{"count": 0, "x": 1}], "y": 2}).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("house.toml: ") for line in lines)


def test_enums_come_by_value_and_defaults_are_filled_in() -> None:
    house = build(House, {"pools": [{"name": "p", "role": "decode"}]}, "house.toml")
    assert house.pools == [Pool(name="p", role=Role.DECODE, count=1, link=Link())]


def test_a_file_becomes_the_class(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text('[[pools]]\nname = "ü"\n[pools.link]\nlength = {kind = "fixed", tokens = 3}\n')
    house = load(House, path)
    assert house.pools[0].name == "ü"
    assert house.pools[0].link.length == Fixed(kind="fixed", tokens=3)


def test_an_error_in_a_file_begins_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text("pools = 3\n")
    with pytest.raises(ConfigError, match=r"house\.toml: pools: Input should be a valid"):
        load(House, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pools = [", r"house.toml: not TOML: Invalid value \(at end of document"),
        (b"pools = ]", r"house.toml: not TOML: .*line 1"),
        (b"a = 1\na = 2\n", r"house.toml: not TOML: .*line 2"),
        (b'a = "\xff"', r"house.toml: invalid UTF-8 at byte 5"),
    ],
)
def test_what_is_no_toml_is_refused_by_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "house.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.toml", "no such file"), (".", "is a directory"), ("file/x.toml", "Not a directory")],
)
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name)
