"""Options that several commands share."""

from typing import Annotated

import typer

from ....client import DEFAULT_ADDRESS

Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        help="Gateway, as host:port; several separated by commas.",
        show_default=True,
    ),
]
ADDRESS = DEFAULT_ADDRESS

Timeout = Annotated[
    float | None, typer.Option(help="Seconds the whole may take, retries included.", min=0.001)
]
Class = Annotated[
    str | None,
    typer.Option("--class", help="interactive, standard (default) or batch: who waits goes by it."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Model = Annotated[str | None, typer.Option(help="Name of the served model.")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", "-n", help="Most tokens to generate.")
]
Temperature = Annotated[float | None, typer.Option("--temperature", "-t", help="0: greedy.")]
TopK = Annotated[int | None, typer.Option(help="Keep the k likeliest tokens; 0: all.")]
TopP = Annotated[float | None, typer.Option(help="Keep the likeliest up to this sum, (0, 1].")]
MinP = Annotated[float | None, typer.Option(help="Keep at least this share of the likeliest.")]
Repetition = Annotated[float | None, typer.Option("--repetition-penalty", help="Above 0; 1: none.")]
Presence = Annotated[float | None, typer.Option("--presence-penalty", help="-2 to 2.")]
Frequency = Annotated[float | None, typer.Option("--frequency-penalty", help="-2 to 2.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same tokens.")]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")]
