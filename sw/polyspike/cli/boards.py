"""`polyspike boards`: the boards there are, and what was reached on them."""

import argparse

NAME = "boards"
SUMMARY = "list boards, and what their bitstreams reach"
DESCRIPTION = """\
List the boards: FPGA, link to the host, configuration, and what the bitstreams made here reached after routing.
"""
EPILOG = """\
A bitstream comes with polyspike where a hash is shown; the others, `polyspike build` makes.

examples:
  polyspike boards
  polyspike boards --markdown
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--markdown", action="store_true", help="the table of docs/boards.md")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from .board_tables import listing, measured

    print(measured() if options.markdown else listing())
    return 0
