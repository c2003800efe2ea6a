"""The generated stubs are what the pinned compiler makes of the .proto files today."""

from pathlib import Path

import pytest
from checkout import ROOT
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from splitweave.proto import admin_pb2, generate, inference_pb2

FILES = [inference_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR]


def test_the_committed_stubs_are_fresh(tmp_path: Path) -> None:
    fresh = generate.compile_protos(tmp_path)
    assert generate.stale(fresh) == []
    assert len(fresh) == 4 * len(list((ROOT / "proto").glob("*.proto")))


def test_an_edited_or_missing_or_orphaned_stub_is_noticed(tmp_path: Path) -> None:
    fresh = generate.compile_protos(tmp_path)
    fresh["admin_pb2.py"] += "# edited\n"
    fresh["new_pb2.py"] = ""
    del fresh["inference_pb2.py"]
    assert generate.stale(fresh) == ["admin_pb2.py", "inference_pb2.py", "new_pb2.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_are_named_by_their_import_path_and_package(file: FileDescriptor) -> None:
    assert file.name.startswith("splitweave/proto/")
    assert file.package == "splitweave.v1"


def fields(file: FileDescriptor) -> list[FieldDescriptor]:
    messages: list[Descriptor] = list(file.message_types_by_name.values())
    return [field for message in messages for field in message.fields]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_floating_point_field_says_its_unit_or_is_a_plain_number(
    file: FileDescriptor,
) -> None:
    plain = {
        "frequency_penalty", "handoff_hidden_share", "hidden_share", "logprob", "min_p",
        "presence_penalty", "repetition_penalty", "seconds", "temperature", "top_p",
    }  # fmt: skip
    floating = [field.name for field in fields(file) if field.type == field.TYPE_DOUBLE]
    assert [name for name in floating if not name.endswith("_s") and name not in plain] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_zero_of_every_enum_means_unspecified(file: FileDescriptor) -> None:
    for enum in file.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")
