"""Every word of `proto`, and hypothesis strategies for them from their type hints."""

import dataclasses
import types
import typing
from enum import Enum
from typing import Any

from hypothesis import strategies as st
from splitweave.proto import (
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

MODULES = (
    batch, cluster_events, effects, gateway_events, ids, move, requests, timers, views,
    worker_events,
)  # fmt: skip
UNIONS = (
    cluster_events.ClusterEvent,
    effects.ClusterEffect,
    effects.GatewayEffect,
    effects.WorkerEffect,
    gateway_events.GatewayEvent,
    worker_events.WorkerEvent,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    int: st.integers(-(2**64), 2**64),
    str: st.text(max_size=6),
    types.NoneType: st.none(),
}


def own_dataclasses(module: types.ModuleType) -> list[type[Any]]:
    """The dataclasses that a module defines itself, in its order."""
    return [
        kind
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type)
        if kind.__module__ == module.__name__
    ]


WORDS = [kind for module in MODULES for kind in own_dataclasses(module)]


def members(union: Any) -> tuple[type[Any], ...]:
    """The classes of a union."""
    return typing.get_args(union)


def bare(hint: Any) -> Any:
    """A type hint below its NewTypes."""
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    return hint


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type hint, small but of every shape."""
    hint = bare(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(item) for item in args])
    if origin is frozenset:
        return st.frozensets(values(args[0]), max_size=4)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*[values(item) for item in args])
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = typing.get_type_hints(hint)
    fields = {field.name: values(hints[field.name]) for field in dataclasses.fields(hint)}
    positional = tuple(fields.values())
    return st.tuples(*positional).map(lambda given: hint(**dict(zip(fields, given, strict=True))))


def default_of(kind: type[Any]) -> Any:
    """One instance of a word, the plainest there is: nothing drawn, the same each time."""
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: plainest(hints[field.name]) for field in dataclasses.fields(kind)})


def plainest(hint: Any) -> Any:
    """0, "", the first of a union or enum, one of each item."""
    hint = bare(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return None if hint is types.NoneType else hint()
    if origin in (typing.Union, types.UnionType):
        return plainest(args[0])
    if origin in (tuple, frozenset):
        return origin(plainest(item) for item in args if item is not Ellipsis)
    if issubclass(hint, Enum):
        return next(iter(hint))
    return default_of(hint)
