"""The .proto files say the same as the dataclasses, the gateway and the SDK."""

import dataclasses
import itertools
import re
from enum import Enum
from typing import Any

import grpc
import pytest
from checkout import ROOT
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from splitweave.client import ask, endpoints, results, status
from splitweave.cluster.live.front import accounting, picture, refusals, replies, server
from splitweave.proto import admin_pb2, inference_pb2, move, requests, views
from splitweave.proto.gateway_events import RejectCode

FILES = (inference_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR)
MESSAGES = {name: message for file in FILES for name, message in file.message_types_by_name.items()}
ENUMS = {name: enum for file in FILES for name, enum in file.enum_types_by_name.items()}


def names_of(enum: EnumDescriptor) -> dict[str, int]:
    """Its values without the prefix and the unspecified one, in lower case."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    values = {value.name.removeprefix(prefix).lower(): value.number for value in enum.values}
    assert values.pop("unspecified") == 0
    return values


@pytest.mark.parametrize(
    ("name", "words", "table"),
    [
        ("Role", views.Role, picture.ROLES),
        ("FinishReason", requests.FinishReason, replies.REASONS),
        ("MoveKind", move.MoveKind, accounting.KINDS),
        ("WorkerState", picture.WorkerState, picture.STATES),
    ],
)
def test_every_value_of_an_enum_has_its_counterpart_on_the_wire(
    name: str, words: type[Enum], table: dict[Any, int]
) -> None:
    assert names_of(ENUMS[name]) == {str(word.value): table[word] for word in words}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("Role", status.ROLE_OF),
        ("WorkerState", status.STATES),
        ("MoveKind", results.KINDS),
    ],
)
def test_the_sdk_reads_every_value_by_its_own_name(name: str, table: dict[int, str]) -> None:
    assert names_of(ENUMS[name]) == {str(word): number for number, word in table.items()}


def test_the_sdk_reads_every_way_to_end_but_the_error_which_it_raises() -> None:
    wire = names_of(ENUMS["FinishReason"])
    del wire["error"]
    assert wire == {str(word): number for number, word in results.REASONS.items()}


def test_a_move_on_the_wire_ends_as_a_move_ends() -> None:
    ends = {stage.value for stage, following in move.NEXT.items() if not following}
    assert set(names_of(ENUMS["MoveOutcome"])) == ends


def test_the_states_of_a_request_that_the_comment_promises_are_the_phases() -> None:
    text = (ROOT / "proto" / "admin.proto").read_text()
    (comment,) = re.findall(r"// (.*)\n  string state = 2;", text)
    assert re.findall(r'"(\w+)"', comment) == [phase.value for phase in views.Phase]


def test_a_rejection_is_a_grpc_status_of_the_same_name() -> None:
    assert {code: refusals.CODES[code].name for code in RejectCode} == {
        code: code.value for code in RejectCode
    }
    assert all(code.value in grpc.StatusCode.__members__ for code in RejectCode)


def test_sampling_params_have_the_same_fields_on_both_sides() -> None:
    ours = {field.name for field in dataclasses.fields(requests.SamplingParams)}
    assert ours == {field.name for field in inference_pb2.SamplingParams.DESCRIPTOR.fields}


def test_a_sampling_field_is_optional_where_left_out_and_zero_differ() -> None:
    defaults = requests.SamplingParams()
    for field in inference_pb2.SamplingParams.DESCRIPTOR.fields:
        drawn = field.name == "seed"  # by the gateway
        assert field.has_presence == (drawn or getattr(defaults, field.name) != 0), field.name


@pytest.mark.parametrize(
    ("kind", "name", "renamed"),
    [
        (results.Token, "Token", {}),
        (results.Logprobs, "Logprobs", {}),
        (results.Usage, "Usage", {}),
        (results.Accounting, "Accounting", {}),
        (results.Move, "Move", {"transfer_bytes": "bytes", "committed": "outcome"}),
        (status.Blocks, "Blocks", {}),
        (status.Worker, "Worker", {}),
        (status.RunningRequest, "RunningRequest", {}),
        (status.RunningMove, "RunningMove", {}),
        (status.Gateway, "Gateway", {}),
        (status.ClusterStatus, "ClusterStatus", {}),
    ],
)
def test_the_sdk_gives_every_field_that_the_wire_has(
    kind: type[Any], name: str, renamed: dict[str, str]
) -> None:
    given = {renamed.get(field.name, field.name) for field in dataclasses.fields(kind)}
    assert given == {field.name for field in MESSAGES[name].fields}


def test_the_sdk_can_say_every_field_of_a_request() -> None:
    resuming = {"skip_tokens", "emitted_token_ids", "resume_key"}  # the machine's own
    prompt = {"text", "chat", "token_ids"}
    fields = {field.name for field in MESSAGES["GenerateRequest"].fields} - resuming - prompt
    sayable = set(ask.Options.__annotations__) - {"timeout_s"}
    assert sayable == (fields - {"sampling"}) | ask.SAMPLING


def fields_without_comment(name: str) -> list[str]:
    """Fields and enum values of one .proto file above which stands no comment."""
    lines = (ROOT / "proto" / name).read_text().splitlines()
    return [
        line.split("=")[0].split()[-1]
        for above, line in itertools.pairwise(lines)
        if re.match(r"\s+[\w. ]+ = \d+;", line)
        if not above.strip().startswith("//")
    ]


# Clear from their names, or said by the comment of the field above.
CLEAR = {
    "accepted", "accounting", "blocks", "chat", "content", "finish_reason",
    "finished", "incarnation", "index", "kind", "logprob", "messages", "model", "move", "move_id",
    "outcome", "pid", "presence_penalty", "prompt_tokens", "request_id", "requests", "role",
    "sampling", "state", "target", "token_id", "tokens", "total", "usage", "worker_id",
}  # fmt: skip


@pytest.mark.parametrize("name", ["inference.proto", "admin.proto"])
def test_a_field_is_commented_or_its_name_says_all(name: str) -> None:
    bare = [field for field in fields_without_comment(name) if not field.isupper()]
    assert [field for field in bare if field not in CLEAR] == []


def test_numbers_of_fields_are_never_moved() -> None:
    """A client of last year's talks to a gateway of this year's: the numbers are the format."""
    assert {
        name: [field.number for field in MESSAGES[name].fields]
        for name in ("GenerateRequest", "ResumeRequest", "Token", "Finished", "Accepted")
    } == {
        "GenerateRequest": list(range(1, 16)),
        "ResumeRequest": [1, 2, 3, 4],
        "Token": [1, 2, 3, 4],
        "Finished": [1, 2, 3, 4, 5],
        "Accepted": [1, 2, 3, 4],
    }
    known = inference_pb2.GenerateRequest.FromString(PINNED_REQUEST)
    assert (known.request_id, known.text, known.max_tokens) == ("r", "hi", 4)
    assert (known.sampling.seed, list(known.stop), list(known.emitted_token_ids)) == (
        7, ["END"], [5, 300],
    )  # fmt: skip


PINNED_REQUEST = bytes.fromhex("0a01721a0268693202400738044203454e44620305ac02")


def largest(field: FieldDescriptor, count: int) -> list[int]:
    assert field.is_repeated
    return [2**18 - 1] * count  # a vocabulary of 262 144


def test_the_longest_context_fits_one_message_with_room() -> None:
    """A million tokens of three bytes each; gateway and SDK allow the same."""
    ids = MESSAGES["TokenIds"].fields_by_name["token_ids"]
    prompt = inference_pb2.TokenIds(token_ids=largest(ids, 1_000_000))
    message = inference_pb2.GenerateRequest(token_ids=prompt)
    assert message.ByteSize() < endpoints.MESSAGE_BYTES_MAX / 4
    assert endpoints.MESSAGE_BYTES_MAX == server.MESSAGE_BYTES_MAX


def test_ids_are_packed_not_said_one_by_one() -> None:
    message = inference_pb2.GenerateRequest(emitted_token_ids=[100] * 1_000)
    assert message.ByteSize() < 1_010


def test_a_token_costs_few_bytes_and_none_for_what_it_has_not() -> None:
    """Streams are millions of these: a new field must not make each of them larger."""
    token = inference_pb2.Token(index=1_000, token_id=100_000, text=" word")
    reply = inference_pb2.GenerateReply(tokens=inference_pb2.Tokens(tokens=[token]))
    assert reply.ByteSize() <= 20
    assert inference_pb2.Token().ByteSize() == 0


@pytest.mark.parametrize("text", ["", "é", "日本", "😀" * 3, "\x00"])
def test_text_is_utf_8_of_any_kind(text: str) -> None:
    token = inference_pb2.Token(text=text)
    assert inference_pb2.Token.FromString(token.SerializeToString()).text == text
