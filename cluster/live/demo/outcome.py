"""How the demo ended, as an exit status and a line for a person."""

from rich.console import Console

from ..config import ConfigError


def outcome() -> int:
    """0 if all went well, 1 if not, 130 after Ctrl-C."""
    console = Console()
    try:
        from .run import run

        return 0 if run(console) else 1
    except ModuleNotFoundError as error:
        console.print(f"[red]{error.name} is not installed[/red]: pip install 'splitweave[serve]'")
        return 1
    except ConfigError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
