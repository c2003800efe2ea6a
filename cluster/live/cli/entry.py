"""The `splitweave` command: loads the program so that Ctrl-C is quiet even then."""

import sys


def main() -> None:
    """Entry point. Imports take a second, in which people press Ctrl-C too."""
    try:
        from .app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
