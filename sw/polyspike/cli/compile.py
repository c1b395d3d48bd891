"""`polyspike compile`: from an integer network to a program."""

import argparse
from pathlib import Path

from polyspike.spec import NAMED, NEURON_FEATURES

NAME = "compile"
SUMMARY = "turn an integer network (.psnn) into a program (.pspk)"
DESCRIPTION = """\
Lower an integer network to a program for one hardware configuration. A network that does not fit the chip's memories
is tiled, and what does not stay on the chip is streamed; --report says what was decided for each layer, and why.
"""
EPILOG = """\
examples:
  polyspike compile net.psnn --config large -o net.pspk
  polyspike compile net.psnn --config tiny --report --listing net.txt
  polyspike compile ternary.psnn --config large --neuron ecl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("network", type=Path, metavar="NETWORK.psnn", help="what `polyspike convert` wrote")
    parser.add_argument("--config", choices=sorted(NAMED), help="hardware configuration (default: large)")
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE.json", help="hardware configuration of your own, as JSON"
    )
    parser.add_argument(
        "--neuron",
        choices=NEURON_FEATURES,
        default="pmsm",
        help="give the configuration the features that these neurons need (default: pmsm, which needs none)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.pspk", help="where to write it (default: beside the network)"
    )
    parser.add_argument("--report", action="store_true", help="print what was decided for each layer, and why")
    parser.add_argument("--listing", type=Path, metavar="FILE", help="write the instructions as text ('-': print them)")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.compiler import compile, listing, save_program
    from polyspike.network import load
    from polyspike.spec import LARGE, for_neuron

    from .configurations import chosen
    from .describe import report_table

    configuration = for_neuron(chosen(options.config, options.config_file) or LARGE, options.neuron)
    program = compile(load(options.network), configuration)
    output = options.output or options.network.with_suffix(".pspk")
    save_program(program, output)
    if options.report:
        print(report_table(program))
    if options.listing is not None:
        text = listing(program)
        if str(options.listing) == "-":
            print(text)
        else:
            options.listing.write_text(text + "\n")
    print(
        f"{output}: {len(program.report)} layers for {program.configuration.name}, "
        f"{'resident' if program.resident else f'streamed in {len(program.segments)} segments'}, "
        f"about {program.cycles:,} cycles an image"
    )
    return 0
