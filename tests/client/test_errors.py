"""A failed call is one of our errors, whatever its status and whatever it carries."""

import dataclasses
from typing import Any

import grpc
import pytest
from both_clients import KINDS
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from splitweave.client import errors
from splitweave.client.errors import SplitweaveError, Violation, from_rpc
from wire_server import DETAILS_KEY, Fail, retry_info, wired

CODE = grpc.StatusCode
EXPECTED: dict[grpc.StatusCode, type[SplitweaveError]] = {
    CODE.INVALID_ARGUMENT: errors.InvalidRequest,
    CODE.NOT_FOUND: errors.NotFound,
    CODE.PERMISSION_DENIED: errors.Denied,
    CODE.FAILED_PRECONDITION: errors.Refused,
    CODE.RESOURCE_EXHAUSTED: errors.Overloaded,
    CODE.UNAVAILABLE: errors.Unavailable,
    CODE.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    CODE.CANCELLED: errors.Cancelled,
}
FAILING = [code for code in CODE if code is not CODE.OK]


@dataclasses.dataclass
class Failure:
    """A failed call as grpc shows it."""

    status: grpc.StatusCode
    text: str | None = "so it is"
    metadata: Any = ()

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str | None:
        return self.text

    def trailing_metadata(self) -> Any:
        return self.metadata


def carrying(code: grpc.StatusCode, *details: Any) -> SplitweaveError:
    status = status_pb2.Status()
    for detail in details:
        status.details.add().Pack(detail)
    metadata = (("other", "x"), (DETAILS_KEY, status.SerializeToString()))
    return from_rpc(Failure(code, metadata=metadata))


@pytest.mark.parametrize("code", FAILING, ids=lambda code: code.name)
def test_every_status_is_an_error_of_the_tree(code: grpc.StatusCode) -> None:
    error = from_rpc(Failure(code))
    expected = EXPECTED.get(code, errors.ServerError)
    assert type(error) is expected
    named = f"{code.name}: so it is" if expected is errors.ServerError else "so it is"
    assert str(error) == error.message == named


@pytest.mark.parametrize("kind", KINDS)
async def test_every_status_is_raised_by_streams_and_calls_alike(kind: str) -> None:
    for code in FAILING:
        answer = [Fail(code, details=(retry_info(3_600.0),))]
        async with wired(answer, answer) as wire:
            client = KINDS[kind](wire.address, timeout_s=60.0)
            expected = EXPECTED.get(code, errors.ServerError)
            for method, arguments in (("generate", ("x",)), ("status", ())):
                with pytest.raises(SplitweaveError, match="so it is") as caught:
                    await client.call(method, *arguments)
                assert type(caught.value) is expected
            assert wire.methods == ["Generate", "Status"]
            await client.close()


@pytest.mark.parametrize("text", [None, ""])
def test_a_status_without_words_is_told_by_its_name(text: str | None) -> None:
    assert str(from_rpc(Failure(CODE.NOT_FOUND, text))) == "NOT_FOUND"


@given(st.integers(0, 10**15))
def test_the_servers_wish_arrives_to_the_nanosecond(delay_ns: int) -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(delay_ns)
    for code in (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE):
        error = carrying(code, info)
        assert isinstance(error, errors.Overloaded | errors.Unavailable)
        assert error.retry_after_s == delay_ns / 1e9


def test_no_wish_is_none() -> None:
    for code in (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE):
        assert getattr(carrying(code), "retry_after_s", 0) is None


def test_every_violation_is_given_and_the_first_is_the_field() -> None:
    pairs = [("sampling.top_p", "is 2; at most 1"), ("stop", "has 99; at most 16")]
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
        for field, description in pairs
    ]
    bad = error_details_pb2.BadRequest(field_violations=violations)
    error = carrying(CODE.INVALID_ARGUMENT, error_details_pb2.ErrorInfo(reason="first"), bad)
    assert isinstance(error, errors.InvalidRequest)
    assert error.violations == tuple(Violation(*pair) for pair in pairs)
    assert error.field == "sampling.top_p"


def test_an_invalid_request_that_names_no_field_has_none() -> None:
    error = carrying(CODE.INVALID_ARGUMENT)
    assert isinstance(error, errors.InvalidRequest)
    assert (error.field, error.violations) == ("", ())


def spoiled() -> bytes:
    """A status that can be read, with a RetryInfo that cannot."""
    url = "type.googleapis.com/google.rpc.RetryInfo"
    details = [any_pb2.Any(type_url=url, value=b"\xff\xff")]
    data: bytes = status_pb2.Status(details=details).SerializeToString()
    return data


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a", spoiled()])
@pytest.mark.parametrize("code", list(EXPECTED), ids=lambda code: code.name)
def test_details_that_cannot_be_read_do_not_hide_the_error(
    code: grpc.StatusCode, data: bytes
) -> None:
    error = from_rpc(Failure(code, metadata=((DETAILS_KEY, data),)))
    assert type(error) is EXPECTED[code]


@given(st.binary(max_size=40))
def test_no_details_whatever_raise_anything_else(data: bytes) -> None:
    for code in (CODE.INVALID_ARGUMENT, CODE.UNAVAILABLE):
        from_rpc(Failure(code, metadata=((DETAILS_KEY, data),)))


@pytest.mark.parametrize("kind", KINDS)
async def test_spoiled_details_on_a_real_socket_are_ignored(kind: str) -> None:
    async with wired([Fail(CODE.INVALID_ARGUMENT, raw=b"\xff\xff\xff")]) as wire:
        client = KINDS[kind](wire.address)
        with pytest.raises(errors.InvalidRequest, match="so it is"):
            await client.call("generate", "x")
        await client.close()
