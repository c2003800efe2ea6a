"""`splitweave chat`: a conversation in the terminal."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from ....client import Client, InvalidRequest, Message, Options
from . import options as opt
from .generate import chosen, figures
from .reporting import PATIENT, UsageProblem, reporting, say
from .text import decode

PROMPT = "[bold green]you>[/] "


class Conversation:
    """The turns so far, and the options of every answer."""

    def __init__(self, client: Client, console: Console, system: str | None) -> None:
        self._client = client
        self._console = console
        self._turns: list[Message] = []
        if system:
            self._turns.append({"role": "system", "content": system})

    def answer(self, text: str, options: Options) -> None:
        """Streams one answer. Ctrl-C ends it; what was said of it is kept."""
        self._turns.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            with self._client.stream(self._turns, **options) as stream:
                for delta in stream:
                    said.append(delta.text)
                    self._console.print(delta.text, end="", markup=False, highlight=False)
                self._console.print(f"\n{figures(stream.result)}", style="dim", markup=False)
        except KeyboardInterrupt:
            self._console.print("\n(cancelled)", style="dim")
        except InvalidRequest as error:  # the conversation outgrew the context, most often
            self._turns.pop()
            say(error)
            return
        self._turns.append({"role": "assistant", "content": "".join(said)})


def chat(  # noqa: PLR0913  (a command line is flat)
    system: Annotated[str | None, typer.Option(help="Instructions for the assistant.")] = None,
    max_tokens: opt.MaxTokens = None,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    repetition_penalty: opt.Repetition = None,
    presence_penalty: opt.Presence = None,
    frequency_penalty: opt.Frequency = None,
    seed: opt.Seed = None,
    stop: opt.Stop = None,
    model: opt.Model = None,
    request_class: opt.Class = None,
    timeout: opt.Timeout = None,
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Talk with the model. Ctrl-C cancels an answer, Ctrl-D leaves."""
    options = chosen(locals())
    console = Console(soft_wrap=True, emoji=False)
    with reporting(), Client(address, retry=PATIENT) as client:
        talk(Conversation(client, console, system), console, options)


def talk(conversation: Conversation, console: Console, options: Options) -> None:
    """Reads turns until the end of input."""
    while True:
        try:
            text = read_turn(console)
        except KeyboardInterrupt:
            console.print("\n(Ctrl-D leaves)", style="dim")
            continue
        except UsageProblem as error:
            say(error)
            continue
        if text is None:
            console.print()
            return
        if text.strip():
            conversation.answer(text, options)


def read_turn(console: Console) -> str | None:
    """One line; None at the end of input."""
    if sys.stdin.isatty():
        try:
            return decode(console.input(PROMPT).encode("utf-8", "surrogateescape"), "input")
        except EOFError:
            return None
    line = sys.stdin.buffer.readline()
    return decode(line, "stdin").rstrip("\n") if line else None
