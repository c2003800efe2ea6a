"""Entry point of `make run`."""

import sys


def main() -> int:
    """0 if all went well, 1 if not, 130 after Ctrl-C."""
    try:
        from .outcome import outcome
    except KeyboardInterrupt:  # imports take a second, in which people press Ctrl-C too
        return 130
    return outcome()


if __name__ == "__main__":
    sys.exit(main())
