"""Text from outside: a prompt from the command line or from stdin."""

import os
import sys

from .reporting import UsageProblem

STDIN = "-"


def prompt_text(argument: str) -> str:
    """The prompt; `-` reads stdin. Raises UsageProblem for what is not UTF-8."""
    if argument == STDIN:
        return decode(sys.stdin.buffer.read(), "stdin")
    return decode(os.fsencode(argument), "PROMPT")


def decode(raw: bytes, where: str) -> str:
    """UTF-8, strictly."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = raw[error.start]
        raise UsageProblem(
            f"{where} is not UTF-8: byte 0x{bad:02x} at offset {error.start} of {len(raw)}"
        ) from None
