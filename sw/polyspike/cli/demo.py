"""`polyspike demo`: Fashion-MNIST from trained network to simulated accelerator, checked to the last integer."""

import argparse
import json
from pathlib import Path

from polyspike.spec import NAMED

from .arguments import positive

NAME = "demo"
SUMMARY = "show it all on Fashion-MNIST: accuracy, cycles, and gateware against golden model"
DESCRIPTION = """\
Convert the demo network (a small VGG, whose checkpoint comes with polyspike) to spike counts, compile it, run all
10,000 test images of Fashion-MNIST on the golden model and some of them on the simulated gateware, and compare every
integer of every layer. Prints accuracies and what each layer costs, and writes an HTML report with pictures.
"""
EPILOG = """\
Cycles are those of the simulated core while it runs a network; images per second follow from them and the stated
clock, and do not include the link to a host. Exits with 1 if any integer differs.

examples:
  polyspike demo
  polyspike demo --images 500 --json demo.json --report demo.html --clock-mhz 80
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--images", type=positive, default=100, metavar="N", help="images on the device (default: 100)")
    parser.add_argument(
        "--golden-images", type=positive, default=10_000, metavar="N", help="images on the golden model (default: all)"
    )
    parser.add_argument("--device", default="sim", help="device that is compared with the golden model (default: sim)")
    parser.add_argument(
        "--config", choices=sorted(NAMED), default="large", help="hardware configuration (default: large)"
    )
    parser.add_argument("--clock-mhz", type=float, default=100.0, metavar="F", help="clock of the rate (default: 100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is printed as JSON")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("build/demo/report.html"),
        metavar="FILE",
        help="HTML report (default: build/demo/report.html)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.spec import named

    from .demonstration import demonstrate
    from .report import write_report

    demonstration = demonstrate(
        named(options.config),
        device=options.device,
        simulated=options.images,
        golden=options.golden_images,
        clock_mhz=options.clock_mhz,
        progress=not options.quiet,
    )
    print(demonstration.text())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(demonstration.to_dict(), indent=2) + "\n")
    options.report.parent.mkdir(parents=True, exist_ok=True)
    write_report(demonstration, options.report)
    print(f"\nreport with pictures: {options.report.resolve()}")
    return 1 if demonstration.comparison.differing else 0
