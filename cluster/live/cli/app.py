"""`splitweave`: the commands, and the program's own options."""

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from .... import __version__
from . import chat, compare, drain, fuzz, generate, operate, plan, profile, serve, simulate, status
from .reporting import CTRL_C

HELP = """
Serve large language models with prefill and decode in separate pools.

A first try, on one machine:

    splitweave serve                             # 1 prefill + 2 decode workers, a demo model
    splitweave generate "The capital of France is" -n 16
    splitweave chat
    splitweave status --watch

Every command but serve, simulate, compare, plan, profile and fuzz talks to a gateway
(--address, by default 127.0.0.1:7070).

Exit status: 0 done, 1 server failure, 2 wrong input, 3 unavailable or
overloaded, 4 no such request or worker, 5 refused in the present state,
6 deadline passed, 130 Ctrl-C.
"""

app = typer.Typer(
    name="splitweave",
    help=HELP.replace("\n\n", "\n\n\b\n"),  # \b: keep the lines as they are
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(command: Callable[..., None], *examples: str, name: str | None = None) -> None:
    """Adds a command; its help ends with the examples."""
    lines = "\n".join(f"splitweave {example}" for example in examples)
    app.command(name, epilog=f"\b\nExamples:\n{lines}")(command)


register(
    serve.serve,
    "serve",
    "serve --model ./llama.gguf --prefill 1 --decode 2 --port 7071",
    "serve --config cluster.toml",
)
register(
    generate.generate,
    'generate "Once upon a time" -n 64 -t 0.8 --seed 7',
    'generate --chat "Why is the sky blue?" --stats',
    "generate - -n 100 < prompt.txt",
    'generate "1, 2, 3," --stop "," --json',
)
register(chat.chat, "chat", 'chat --system "Answer in one sentence." -t 0.7')
register(status.status, "status", "status --watch", "status --request req-1 --json")
register(
    drain.drain,
    "drain decode-0 --deadline 30",
    "drain --pool decode-old --deadline 120 --recompute",
    "drain --all --restart",
)
register(operate.migrate, "migrate req-1 --to decode-1")
register(operate.set_role, "set-role decode-1 mixed", name="set-role")
register(
    simulate.simulate,
    "simulate examples/two_pools.toml",
    "simulate examples/like_mooncake.toml",
    "simulate examples/faults.toml --seeds 100",
    "simulate examples/faults.toml --seed 42 --json",
    "simulate examples/devices.toml --out results/devices",
    "simulate examples/devices.toml --html report.html",
)
register(
    profile.profile,
    "profile --out mine.csv",
    "profile --model ./llama.gguf --threads 4 --sequences 64 --context 4096 --out llama.csv",
)
register(
    compare.compare,
    "compare results/four results/eight",
    "compare results/four results/eight --html compare.html",
)
register(
    plan.plan,
    "plan --trace azure-conversation --rate 20 --model Llama-3.1-70B --slo ttft=2,tpot=0.1@p90",
    "plan --trace trace.csv --model ./config.json --slo ttft=1,tpot=50ms@p95 --machines H100,L40S "
    "--budget '80$/h' --out plan",
)
register(
    fuzz.fuzz,
    "fuzz --seeds 5000 --jobs 2",
    "fuzz --seeds 1 --first 4711",
    "fuzz --seeds 300 examples/faults.toml",
)


def show_version(asked: bool) -> None:
    """Prints the version and leaves."""
    if asked:
        typer.echo(f"splitweave {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The program's own options."""


def main() -> None:
    """Entry point of the `splitweave` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may not know every character
        sys.stdout.reconfigure(errors="replace")
    try:
        app(prog_name="splitweave")
    except KeyboardInterrupt:
        sys.exit(CTRL_C)
