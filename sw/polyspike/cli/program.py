"""`polyspike program`: a bitstream into a board."""

import argparse
from pathlib import Path

NAME = "program"
SUMMARY = "load a bitstream into a board"
DESCRIPTION = """\
Load a bitstream into a board with the board's usual open tool, after its archive was checked: CRC-32, SHA-256, and the
board it is of. Without --bitstream, the one that comes with polyspike.
"""
EPILOG = """\
What follows -- goes to the tool, e.g. which of several cables to use.

examples:
  polyspike program --board ulx3s-85f
  polyspike program --board icebreaker --flash
  polyspike program --board ulx3s-25f --bitstream build/boards/ulx3s-25f/ulx3s-25f.psbit
  polyspike program --board colorlight-5a-75b -- --cable ft232RL
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--board", required=True, metavar="NAME", help="a board of `polyspike boards`, or FILE.py:CLASS"
    )
    parser.add_argument("--bitstream", type=Path, metavar="FILE.psbit", help="what `polyspike build` wrote")
    parser.add_argument("--flash", action="store_true", help="write it to the board's flash, where it stays")
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="more options for the board's tool")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike import bitstreams
    from polyspike.gateware.boards import find
    from polyspike.gateware.boards.program import program

    board = find(options.board)
    bitstream = bitstreams.load(board.name) if options.bitstream is None else bitstreams.read(options.bitstream)
    program(board, bitstream, flash=options.flash, options=options.options)
    manifest = bitstream.manifest
    print(f"{board.name}: loaded {manifest.configuration.name} at {manifest.clock_hz / 1e6:.2f} MHz, {board.link}")
    return 0
