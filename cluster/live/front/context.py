"""The type of a call's context: grpc's own is generic in the messages only."""

from typing import Any, TypeAlias

from grpc import aio

Context: TypeAlias = "aio.ServicerContext[Any, Any]"
