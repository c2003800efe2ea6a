"""`splitweave profile`: what iterations take on this machine."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from .reporting import reporting
from .serve import require_serving


def profile(  # noqa: PLR0913  (a command line is flat)
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file to write.")] = Path(
        "profile.csv"
    ),
    model: Annotated[
        str, typer.Option(help="GGUF file, Hugging Face directory, or `demo`.")
    ] = "demo",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads, as of the pool.", min=1)] = 2,
    blocks: Annotated[int, typer.Option(help="KV blocks, as of the pool.", min=1)] = 1024,
    block_tokens: Annotated[int, typer.Option(help="Tokens of a block.", min=1)] = 16,
    batched_tokens: Annotated[
        int, typer.Option(help="Most tokens of an iteration (batched_tokens_max).", min=1)
    ] = 512,
    sequences: Annotated[
        int, typer.Option(help="Most requests of an iteration (sequences_max).", min=1)
    ] = 32,
    context: Annotated[int, typer.Option(help="Longest context to measure.", min=1)] = 2048,
    rounds: Annotated[int, typer.Option(help="Times each shape is measured.", min=1)] = 5,
    live: Annotated[
        bool, typer.Option("--live", help="Time a real worker process too, on an embedded Ray.")
    ] = False,
    beside: Annotated[
        int,
        typer.Option(help="Measure too how so many other workers slow it down.", min=0, max=64),
    ] = 0,
) -> None:
    """Measure prefills, decodes and both at once, and write them for the simulator.

    Loads the model as a worker does and times iterations by prompt length and context, by
    batch and context, and mixed ones; what a worker's core takes between two iterations is
    added. With --live a cluster of one worker is started as well: what its iterations take
    longer than the bare engine's goes into the table in the core's place. With --beside N
    some shapes are timed again while N processes compute the same model endlessly, and what
    an iteration suffers from them is written above the table: give the number of other
    workers that will share this machine. With both, a cluster of 1 + N workers is measured
    instead, which shows as well what gateway and clients take from them. `splitweave simulate`
    uses the file: `[hardware.NAME] kind = "table"` (docs/cost-models.md). Let the machine do
    nothing else meanwhile.
    """
    with reporting():
        require_serving()
        # By name: the command line must load without Ray and torch.
        measured = import_module("...profile", __name__)
        room = measured.Room(
            batched_tokens_max=batched_tokens,
            sequences_max=sequences,
            context_tokens_max=context,
            blocks=blocks,
            block_tokens=block_tokens,
        )
        measured.profile(
            measured.Wanted(
                model=model, device=device, threads=threads, room=room, rounds=rounds,
                live=live, beside=beside,
            ),
            out,
        )  # fmt: skip
