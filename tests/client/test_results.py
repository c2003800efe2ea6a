"""From the wire to the SDK's values: every field arrives, in its own place."""

import dataclasses
import itertools
from enum import Enum
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from splitweave.client import results, status
from splitweave.client.calls import set_role
from splitweave.client.results import FinishReason, Generation, MoveKind, Token, Usage
from splitweave.client.status import Role
from splitweave.proto import admin_pb2, inference_pb2

# What the SDK calls by another name than the wire.
RENAMED = {"transfer_bytes": "bytes"}


def filled(kind: type[Any], numbers: Any) -> Any:
    """A message with a different value in each field; two items in each repeated one."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            nested = field.message_type._concrete_class
            parts = [filled(nested, numbers) for _ in range(2)]
            if field.is_repeated:
                getattr(message, field.name).extend(parts)
            else:
                getattr(message, field.name).CopyFrom(parts[0])
        elif field.is_repeated:
            getattr(message, field.name).extend([scalar(field, numbers) for _ in range(2)])
        else:
            setattr(message, field.name, scalar(field, numbers))
    return message


def scalar(field: FieldDescriptor, numbers: Any) -> Any:
    number = next(numbers)
    if field.enum_type is not None:
        return 1 + number % (len(field.enum_type.values) - 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"text-{number}"
    return number + 0.5 if field.type == FieldDescriptor.TYPE_DOUBLE else number


def agree(value: Any, message: Any) -> None:
    """Each field of the dataclass has what the message has under that name."""
    for field in dataclasses.fields(value):
        ours = getattr(value, field.name)
        if field.name == "committed":
            assert ours == (message.outcome == inference_pb2.MOVE_OUTCOME_COMMITTED)
            continue
        theirs = getattr(message, RENAMED.get(field.name, field.name))
        same(ours, theirs, field.name)


def same(ours: Any, theirs: Any, name: str) -> None:
    if isinstance(ours, tuple) and isinstance(theirs, Message):
        assert ours == tuple(part for _, part in theirs.ListFields())
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            same(our, their, name)
    elif dataclasses.is_dataclass(ours):
        agree(ours, theirs)
    elif isinstance(ours, Enum) or (name == "state" and isinstance(theirs, int)):
        assert str(ours) in WORDS_OF[theirs, name], name
    else:
        assert ours == theirs, name


def words_of() -> dict[tuple[int, str], set[str]]:
    """What a number means in a field, by the names in the .proto file."""
    fields = {
        "kind": inference_pb2.MoveKind, "role": admin_pb2.Role, "state": admin_pb2.WorkerState
    }  # fmt: skip
    return {
        (number, field): {name.rpartition("_")[2].lower()}
        for field, enum in fields.items()
        for name, number in enum.items()
    }


WORDS_OF = words_of()


@pytest.mark.parametrize("start", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (inference_pb2.Token, results.token),
        (inference_pb2.Move, results.move),
        (inference_pb2.Usage, results.usage),
        (inference_pb2.Accounting, results.accounting),
        (admin_pb2.ClusterStatus, status.cluster_status),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_field_arrives_in_its_own_place(kind: Any, read: Any, start: int) -> None:
    message = filled(kind, itertools.count(start))
    agree(read(message), message)


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (inference_pb2.Accounting, results.accounting),
        (inference_pb2.Move, results.move),
        (admin_pb2.ClusterStatus, status.cluster_status),
    ],
)
def test_a_message_without_anything_can_be_read(kind: Any, read: Any) -> None:
    value = read(kind())
    assert hash(value) == hash(read(kind()))


def test_no_logprobs_are_none_and_not_zero() -> None:
    assert results.token(inference_pb2.Token(index=1)).logprobs is None
    assert results.token(filled(inference_pb2.Token, itertools.count(1))).logprobs is not None


def test_what_a_newer_server_calls_by_a_new_number_is_read_all_the_same() -> None:
    message = filled(admin_pb2.ClusterStatus, itertools.count(1))
    for worker, move in zip(message.workers, message.moves, strict=True):
        worker.role, worker.state, move.kind = 99, 99, 99
    read = status.cluster_status(message)
    assert {(worker.role, worker.state) for worker in read.workers} == {(Role.MIXED, "unknown")}
    assert {move.kind for move in read.moves} == {MoveKind.MIGRATION}
    reply = admin_pb2.SetRoleReply()
    reply.previous = 99  # type: ignore[assignment]
    assert set_role("w", "decode").read(reply) is Role.MIXED


def test_an_aborted_move_and_one_that_says_nothing_are_not_committed() -> None:
    for outcome in (inference_pb2.MOVE_OUTCOME_ABORTED, inference_pb2.MOVE_OUTCOME_UNSPECIFIED):
        assert not results.move(inference_pb2.Move(outcome=outcome)).committed


def test_the_tokens_of_a_result_are_not_printed_but_counted() -> None:
    """A repr of a thousand tokens helps nobody."""
    usage = Usage(prompt_tokens=1, cached_tokens=0, output_tokens=2)
    generation = Generation(
        request_id="r", seed=1, rendered_at_s=None, text="ab", usage=usage, retries=0,
        finish_reason=FinishReason.STOP,
        accounting=results.accounting(inference_pb2.Accounting()),
        tokens=(Token(index=0, token_id=5, text="a"), Token(index=1, token_id=9, text="b")),
    )  # fmt: skip
    assert generation.token_ids == (5, 9)
    assert "token_id=5" not in repr(generation)
