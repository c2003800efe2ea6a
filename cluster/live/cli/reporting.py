"""How a command ends badly: one line on stderr that says what to do, and a status.

0    done
1    the server failed in a way it did not plan for
2    the request or the command line is wrong; nothing was done
3    nobody answers, or there is no room; try again later
4    no such request or worker
5    not possible in the cluster's present state, or another client's
6    the deadline passed
130  Ctrl-C
"""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from ....client import RetryPolicy, errors
from ....proto.toml_file import ConfigError

CTRL_C = 130
STATUS: dict[type[Exception], int] = {
    errors.InvalidRequest: 2,
    ConfigError: 2,
    errors.Overloaded: 3,
    errors.Unavailable: 3,
    errors.NotFound: 4,
    errors.Refused: 5,
    errors.Denied: 5,
    errors.DeadlineExceeded: 6,
}
HINTS: dict[type[Exception], str] = {
    errors.Unavailable: "is `splitweave serve` running there? --address names another place",
    errors.NotFound: "`splitweave status` lists what there is",
    errors.DeadlineExceeded: "--timeout gives it longer",
}


class UsageProblem(Exception):
    """The command line cannot be carried out as it is."""


STATUS[UsageProblem] = 2


@contextmanager
def reporting() -> Iterator[None]:
    """Turns an error that users can meet into one line and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(CTRL_C) from None
    except (errors.SplitweaveError, ConfigError, UsageProblem) as error:
        say(error)
        raise typer.Exit(STATUS.get(type(error), 1)) from None


def say_reconnecting(error: errors.SplitweaveError, wait_s: float) -> None:
    """A stream would be silent without a word: its gateway is gone, or has no room."""
    text = " ".join(str(error).split())
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False, style="dim")
    console.print(f"reconnecting in {wait_s:.1f} s: {text}", markup=False)


PATIENT = RetryPolicy(on_retry=say_reconnecting)


def say(error: Exception) -> None:
    """One line on stderr; a config that is wrong in several places has a line for each."""
    hint = HINTS.get(type(error))
    wrongs = str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    for wrong in wrongs:
        text = " ".join(wrong.split())
        console.print("error:", style="bold red", end=" ")
        console.print(f"{text} ({hint})" if hint else text, markup=False)
