"""`splitweave generate`: one answer, streamed to stdout."""

import dataclasses
import json
import sys
from typing import Annotated, Any, cast

import typer

from ....client import Client, Generation, Message, Options, Prompt, Stream
from . import options as opt
from .reporting import PATIENT, reporting
from .text import prompt_text

STATS = (
    "[{workers}] {prompt} prompt + {output} output tokens, TTFT {ttft:.0f} ms, TPOT {tpot:.1f} ms"
)


def generate(  # noqa: PLR0913  (a command line is flat)
    prompt: Annotated[str, typer.Argument(help="Text to continue; `-` reads it from stdin.")],
    chat: Annotated[
        bool, typer.Option("--chat", help="Send it as a user's message, by the chat template.")
    ] = False,
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
    stop_token_ids: Annotated[
        list[int] | None, typer.Option("--stop-token-id", help="End at this token; repeatable.")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Do not stop at the end of sequence.")
    ] = False,
    logprobs: Annotated[
        int | None, typer.Option(help="Alternatives to report per token (with --json).")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="Id to find it by in status.")] = None,
    model: opt.Model = None,
    request_class: opt.Class = None,
    timeout: opt.Timeout = None,
    stats: Annotated[bool, typer.Option("--stats", help="A line of figures on stderr.")] = False,
    as_json: opt.Json = False,
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Continue a text, token by token."""
    given = locals()
    with reporting():
        text = prompt_text(prompt)
        turn: Message = {"role": "user", "content": text}
        what: Prompt = [turn] if chat else text
        with (
            Client(address, retry=PATIENT) as client,
            client.stream(what, **chosen(given)) as stream,
        ):
            print_json(stream) if as_json else print_text(stream, stats)


def chosen(given: dict[str, Any]) -> Options:
    """The options that were given on the command line, by their SDK names."""
    names = {**given, "timeout_s": given.get("timeout")}
    values = {name: names.get(name) for name in Options.__annotations__}
    # 0 and 0.0 are values; None, False and an empty list were not given.
    kept = {name: value for name, value in values.items() if value or type(value) in (int, float)}
    return cast(Options, kept)


def print_text(stream: Stream, stats: bool) -> None:
    """The text as it comes, and a newline."""
    for delta in stream:
        sys.stdout.write(delta.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    if stats:
        typer.secho(figures(stream.result), err=True, dim=True)


def print_json(stream: Stream) -> None:
    """The whole answer as one object."""
    typer.echo(json.dumps(dataclasses.asdict(stream.result), ensure_ascii=False))


def figures(result: Generation) -> str:
    """Where an answer was made and how fast, in one line."""
    return STATS.format(
        workers=" > ".join(result.accounting.workers),
        prompt=result.usage.prompt_tokens,
        output=result.usage.output_tokens,
        ttft=result.accounting.ttft_s * 1e3,
        tpot=result.accounting.tpot_s * 1e3,
    )
