"""Reads a TOML file into a frozen dataclass, strictly.

Unknown keys, wrong types and values out of bounds are refused by the key's
full name, with what would have been allowed.
"""

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
UNION = (typing.Union, types.UnionType)


class ConfigError(ValueError):
    """A config file that cannot be used. Its text is meant for the operator."""


def load(cls: type[T], path: Path) -> T:
    """`path` as a `cls` (a pydantic dataclass); raises ConfigError."""
    return build(cls, read(path), str(path))


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises ConfigError with file and line."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a TOML file") from None
    except PermissionError:
        raise ConfigError(f"{path}: not readable") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: invalid UTF-8 at byte {error.start}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def build(cls: type[T], tables: Mapping[str, Any], origin: str) -> T:
    """`tables` as a `cls`; `origin` opens every message. Raises ConfigError."""
    try:
        # Strict Python input wants instances; strict JSON takes tables and enum names.
        return TypeAdapter(cls).validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        lines = [_explain(cls, dict(item)) for item in error.errors()]
        raise ConfigError("\n".join(f"{origin}: {line}" for line in lines)) from None


def _explain(cls: type[Any], item: Mapping[str, Any]) -> str:
    location: Sequence[str | int] = item["loc"]
    key = _dotted(cls, location)
    if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f"unknown key {key}{_suggest(cls, location)}"
    if item["type"] in {"missing", "missing_argument"}:
        return f"missing key {key}"
    message = str(item["msg"]).removeprefix("Value error, ")
    given = item.get("input")
    shown = "" if isinstance(given, dict | list) or dataclasses.is_dataclass(given) else repr(given)
    return (f"{key}: " if key else "") + message + (f" (got {shown})" if shown else "")


def _dotted(cls: Any, location: Sequence[str | int]) -> str:
    """The key as it stands in the file: a union's tag, which pydantic puts in, is left out."""
    text = ""
    for part in location:
        if _tagged(cls, part) is None:
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        cls = _step_into(cls, part)
    return text.lstrip(".")


def _suggest(cls: type[Any], location: Sequence[str | int]) -> str:
    allowed = _fields_at(cls, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return hint + (f" (known here: {', '.join(allowed)})" if allowed else "")


def _fields_at(cls: Any, location: Sequence[str | int]) -> list[str]:
    for part in location:
        cls = _step_into(cls, part)
    cls = _bare(cls)
    if not dataclasses.is_dataclass(cls):
        return []
    return [field.name for field in dataclasses.fields(cls)]


def _step_into(cls: Any, part: str | int) -> Any:
    """The type one step down: a field, an item, a value, or a union's member by its tag."""
    cls = _bare(cls)
    if dataclasses.is_dataclass(cls):
        return {field.name: field.type for field in dataclasses.fields(cls)}.get(str(part))
    arguments = [item for item in typing.get_args(cls) if item is not Ellipsis]
    return _tagged(cls, part) or (arguments[-1] if arguments else None)


def _tagged(cls: Any, part: str | int) -> Any:
    """The member of the union `cls` that has `part` for its tag; None if there is none."""
    cls = _bare(cls)
    members = typing.get_args(cls) if typing.get_origin(cls) in UNION else ()
    return next((item for item in members if _tag(item) == part), None)


def _tag(cls: Any) -> str | None:
    """The `kind` that picks `cls` among a union's members."""
    if not dataclasses.is_dataclass(cls):
        return None
    kinds = [field.type for field in dataclasses.fields(cls) if field.name == "kind"]
    return typing.get_args(kinds[0])[0] if kinds and typing.get_args(kinds[0]) else None


def _bare(cls: Any) -> Any:
    """`cls` without its annotations, and without the None beside it."""
    while typing.get_origin(cls) is typing.Annotated:
        cls = typing.get_args(cls)[0]
    members = typing.get_args(cls) if typing.get_origin(cls) in UNION else ()
    others = [item for item in members if item is not types.NoneType]
    return _bare(others[0]) if len(others) == 1 else cls
