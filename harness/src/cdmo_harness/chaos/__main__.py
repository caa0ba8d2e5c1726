"""`python -m cdmo_harness.chaos`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command. Loading it takes a second, in which Ctrl-C is an ordinary end as well."""
    try:
        import typer

        from cdmo_harness.chaos.command import command

        typer.run(command)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
