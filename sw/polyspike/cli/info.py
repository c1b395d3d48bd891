"""`polyspike info`: what a network or program file holds."""

import argparse
from pathlib import Path

NAME = "info"
SUMMARY = "show what is in a network (.psnn) or program (.pspk) file"
DESCRIPTION = """\
Show a file's layers with shapes, count ranges, weights, and the bits that each layer's membranes need at most (which
is what the no-overflow proof of the compiler compares with the hardware's width); for a program also the hardware
configuration, its digest, and where everything lies. Without a file: the hardware configurations there are.
"""
EPILOG = """\
examples:
  polyspike info net.psnn
  polyspike info net.pspk
  polyspike info
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a .psnn or .pspk file")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.file is None:
        from .describe import configuration_table

        print(configuration_table())
        return 0

    from polyspike.compiler import load_program
    from polyspike.network import file, load

    from .describe import describe_network, describe_program

    kind = file.kind(options.file)
    if kind == file.KIND:
        print(describe_network(load(options.file)))
    else:
        # Anything else is refused here, with a message that says what it is.
        print(describe_program(load_program(options.file)))
    return 0
