"""Limits for tests of what happens when one is reached."""

from collections.abc import Iterator

MOST_S = 100.0


def longer(first_s: float) -> Iterator[float]:
    """`first_s`, and twice as much each time: a test stops at the first that was enough.

    Before a limit ends what a test is about, that must have begun: a busy machine may
    take longer for it than any one limit that a test could choose.
    """
    limit_s = first_s
    while limit_s < MOST_S:
        yield limit_s
        limit_s *= 2
    raise AssertionError(f"it did not begin within {limit_s / 2:g} s")
