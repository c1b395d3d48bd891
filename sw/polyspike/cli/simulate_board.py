"""`polyspike simulate-board`: a simulated board on a serial port of its own."""

import argparse
import signal

from polyspike.spec import named

from .arguments import positive
from .interrupts import heed_interrupts

NAME = "simulate-board"
SUMMARY = "simulate a board on a serial port"
DESCRIPTION = """\
Simulate the gateware with its UART and put it at the other end of a pseudo-terminal, which behaves like the serial port
of a board: it has a rate, and a program that uses another one hears garbage. The port's name is printed.

A simulated board is slower than a real one. Where a program finds it too slow to answer, tell it how many seconds count
as one: POLYSPIKE_TIME_SCALE=20 polyspike run ...
"""
EPILOG = """\
examples:
  polyspike simulate-board --config tiny
  polyspike run net.pspk test.npz --device serial:/dev/pts/5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", default="tiny", metavar="NAME", help="the board's configuration (default: tiny)")
    parser.add_argument("--clock", type=positive, metavar="HZ", help="the board's clock (default: 921600)")
    parser.add_argument("--baud", type=positive, metavar="BAUD", help="its rate after reset (default: 115200)")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.cosim.board import CLOCK_HZ, SimulatedSerialBoard
    from polyspike.spec.uart import BASE_BAUD

    heed_interrupts()
    configuration = named(options.config)
    with SimulatedSerialBoard(configuration, options.clock or CLOCK_HZ, options.baud or BASE_BAUD) as board:
        print(f"a board of configuration {configuration.name!r}: serial:{board.path} (end: Ctrl-C)", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("polyspike: interrupted; the board is gone")
    return 0
