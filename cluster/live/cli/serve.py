"""`splitweave serve`: a cluster on this machine, or on the Ray cluster it is in."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .reporting import UsageProblem, reporting

NEEDED = {"ray": "Ray", "torch": "torch"}


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file; docs/configuration.md.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="GGUF file, Hugging Face directory, or `demo`.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: a free one.", min=0, max=65535)
    ] = None,
    prefill: Annotated[int | None, typer.Option(help="Prefill workers.", min=1)] = None,
    decode: Annotated[int | None, typer.Option(help="Decode workers.", min=1)] = None,
) -> None:
    """Start a cluster and serve until Ctrl-C. Options go before the file's word."""
    with reporting():
        require_serving()
        # By name: the command line must load without Ray and torch.
        live = import_module("...serve", __name__)
        overrides = live.Overrides(
            model=model, host=host, port=port, prefill=prefill, decode=decode
        )
        live.serve(config, overrides)


def require_serving() -> None:
    """Raises UsageProblem if what only `splitweave[serve]` installs is missing."""
    for module, name in NEEDED.items():
        if find_spec(module) is None:
            raise UsageProblem(f"{name} is not installed: pip install 'splitweave[serve]'")
