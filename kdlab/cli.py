"""`kdlab` on the command line: finds the command and tells its errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kdlab.commands import distill, export, notebooks, translate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    chosen = parser().parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except (ValueError, FileNotFoundError) as error:
        print(f"kdlab {chosen.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    """All commands and what they take."""
    command = argparse.ArgumentParser(prog="kdlab", description="Knowledge distillation of language models.")
    commands = command.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (distill, translate, export, notebooks):
        module.add_parser(commands)
    return command


if __name__ == "__main__":
    raise SystemExit(main())
