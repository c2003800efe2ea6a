"""Any word of `proto` as JSON and back, strictly.

A dataclass becomes {"@": class name, field: value, …}; tuples and frozensets
become arrays (sets sorted); enums their values. Reading follows the fields'
annotations: an unknown class or field, a missing field or a wrong type is
refused by name.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from typing import Any

from . import (
    batch,
    cluster_events,
    effects,
    gateway_events,
    ids,
    move,
    requests,
    timers,
    views,
    worker_events,
)

TAG = "@"
_MODULES = (
    batch, cluster_events, effects, gateway_events, ids, move, requests, timers, views,
    worker_events,
)  # fmt: skip
_PLAIN = (int, str, float, bool, types.NoneType)
Convert = Callable[[Any], Any]


class CodecError(ValueError):
    """JSON that is none of our words. The text names the class and the field."""


def encode(value: Any) -> Any:
    """`value` as what `json.dumps` takes."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if dataclasses.is_dataclass(kind):
        out = {TAG: kind.__name__}
        for name, convert in _encoders(kind):
            field = getattr(value, name)
            out[name] = field if convert is None else convert(field)
        return out
    if kind is tuple or kind is list:
        return [encode(item) for item in value]
    if kind is frozenset:
        return sorted(encode(item) for item in value)
    if isinstance(value, Enum):
        return value.value
    raise CodecError(f"{kind.__name__} is not a word of proto")


def decode(data: Any) -> Any:
    """The dataclass that `encode` made `data` from. Raises CodecError."""
    if not isinstance(data, dict) or not isinstance(data.get(TAG), str):
        raise CodecError(f"expected an object with {TAG!r}, got {str(data)[:80]}")
    kind = _classes().get(data[TAG])
    if kind is None:
        raise CodecError(f"unknown class {data[TAG]!r}")
    return _decode_fields(kind, data)


@cache
def _classes() -> dict[str, type[Any]]:
    found: dict[str, type[Any]] = {}
    for module in _MODULES:
        for name, kind in vars(module).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                assert found.setdefault(name, kind) is kind, f"two classes are named {name}"
    return found


@cache
def _encoders(kind: type[Any]) -> tuple[tuple[str, Convert | None], ...]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return tuple((f.name, None if _json_takes(hints[f.name]) else encode) for f in fields)


def _json_takes(hint: Any) -> bool:
    """Whether `json` writes values of `hint` as `encode` would: no need to look inside."""
    hint = _bare(hint)
    if hint in _PLAIN:
        return True
    origin = typing.get_origin(hint)
    if origin in (tuple, typing.Union, types.UnionType):
        return all(arg is Ellipsis or _json_takes(arg) for arg in typing.get_args(hint))
    return False


def _bare(hint: Any) -> Any:
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    return hint


def _decode_fields(kind: Any, data: dict[str, Any]) -> Any:
    readers = _decoders(kind)
    unknown = data.keys() - readers.keys() - {TAG}
    if unknown:
        raise CodecError(f"{kind.__name__}: unknown field {min(unknown)!r}")
    missing = readers.keys() - data.keys()
    if missing:
        raise CodecError(f"{kind.__name__}: missing field {min(missing)!r}")
    values = {}
    for name, read in readers.items():
        try:
            values[name] = read(data[name])
        except CodecError as error:
            raise CodecError(f"{kind.__name__}.{name}: {error}") from None
    return kind(**values)


@cache
def _decoders(kind: Any) -> dict[str, Convert]:
    hints = typing.get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}


def _reader(hint: Any) -> Convert:
    hint = _bare(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _tuple_reader(args)
    if origin is frozenset:
        item = _reader(args[0])
        return lambda data: frozenset(item(part) for part in _array(data))
    if origin in (typing.Union, types.UnionType):
        return _union_reader(args)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_reader(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _instance_reader((hint,))
    assert hint in _PLAIN, f"no reader for {hint}"
    return _plain_reader(hint)


def _plain_reader(hint: type[Any]) -> Convert:
    allowed = (float, int) if hint is float else (hint,)

    def read(data: Any) -> Any:
        if type(data) not in allowed:
            raise CodecError(f"expected {hint.__name__}, got {str(data)[:80]!r}")
        return data

    return read


def _tuple_reader(args: tuple[Any, ...]) -> Convert:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _reader(args[0])
        return lambda data: tuple([item(part) for part in _array(data)])
    items = tuple(_reader(arg) for arg in args)

    def read(data: Any) -> Any:
        if len(_array(data)) != len(items):
            raise CodecError(f"expected {len(items)} items, got {len(data)}")
        return tuple(item(part) for item, part in zip(items, data, strict=True))

    return read


def _enum_reader(hint: type[Enum]) -> Convert:
    def read(data: Any) -> Any:
        try:
            return hint(data)
        except ValueError:
            raise CodecError(f"{data!r} is no {hint.__name__}") from None

    return read


def _instance_reader(kinds: tuple[type[Any], ...]) -> Convert:
    names = {kind.__name__: kind for kind in kinds}

    def read(data: Any) -> Any:
        tag = data.get(TAG) if isinstance(data, dict) else None
        kind = names.get(tag) if isinstance(tag, str) else None
        if kind is None:
            raise CodecError(f"expected {' or '.join(names)}, got {str(data)[:80]}")
        return _decode_fields(kind, data)

    return read


def _union_reader(args: tuple[Any, ...]) -> Convert:
    kinds = tuple(arg for arg in args if dataclasses.is_dataclass(arg))
    instance = _instance_reader(typing.cast("tuple[type[Any], ...]", kinds)) if kinds else None
    others = tuple(_reader(a) for a in args if a is not types.NoneType and a not in kinds)
    optional = types.NoneType in args
    assert len(others) <= 1, f"nothing in JSON tells {args} apart"

    def read(data: Any) -> Any:
        if data is None and optional:
            return None
        if others and not isinstance(data, dict):
            return others[0](data)
        if instance is None:
            raise CodecError(f"unexpected {str(data)[:80]}")
        return instance(data)

    return read


def _array(data: Any) -> Sequence[Any]:
    if not isinstance(data, list | tuple):  # a tuple: what `encode` left as it was
        raise CodecError(f"expected an array, got {str(data)[:80]}")
    return data
