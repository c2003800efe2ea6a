"""How pieces of work reach threads.

Threads draw pieces from a shared counter instead of getting fixed shares: cores
are shared with other processes, and a fixed share waits for the slowest. Which
thread computes a piece never changes a bit.
"""

from typing import Any

from numba import types

from . import emit


@emit.inline_llvm
def draw(typing_context: Any, counter: Any) -> Any:
    """The next number of the int64 counter at this address, each given once."""
    signature = types.int64(types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], emit.WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, emit.word(1), "monotonic")

    return signature, generate
