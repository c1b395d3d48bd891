"""Measure how busy the link is while a batch is streamed, on a simulated board: the gateware with its UART, bit by bit.

A driver streams images to the board, and the wire to the board is watched: it is busy while it carries a byte, from
start bit to stop bit. The share is that of all cycles from the beginning of the first byte to the end of the last one,
so waits of any kind count against it; the simulated host takes no time of its own. Where the core needs more time than
the link, the core is what is busy. Exits with 1 when neither is for at least `PROMISED` of the time, or when an integer
differs from the golden model.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from polyspike.cli.text import number, percent, table
from polyspike.compiler import compile
from polyspike.cosim.board import CLOCK_HZ, bring_up
from polyspike.driver import Connection, WordDevice, open_device
from polyspike.network import CountRange, Input, Layer, Network, Neuron, Synapse, verify
from polyspike.spec import Configuration, named
from polyspike.spec.uart import BASE_BAUD

#: Share of the time in which the link, or the core, is busy while a batch is streamed.
PROMISED = 0.9

HEADINGS = (
    "network",
    "cycles a bit",
    "images",
    "bytes an image",
    "link busy",
    "answers",
    "core busy",
    "integers differing",
)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One batch of one network at one rate."""

    network: str
    configuration: str
    cycles_a_bit: int
    images: int
    bytes_an_image: float
    #: share of the time in which the wire to the board carries a byte
    link_busy: float
    #: the same for the wire from the board
    answers_busy: float
    #: share of the time in which a program is executed
    core_busy: float
    compared: int
    differing: int

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table, as in `HEADINGS`."""
        return (
            f"{self.network} on {self.configuration}",
            str(self.cycles_a_bit),
            number(self.images),
            f"{self.bytes_an_image:.0f}",
            percent(self.link_busy),
            percent(self.answers_busy),
            percent(self.core_busy),
            f"{self.differing} of {number(self.compared)}",
        )


def strided() -> Network:
    """16 x 16 pixels to eight classes: a strided convolution of 8 channels and a linear layer. Weights are random."""
    rng = np.random.default_rng(0)
    image = (1, 16, 16)
    neuron = Neuron(CountRange(0, 15, 4), np.full(8, 2000, np.int32), np.full(8, 1000, np.int32))
    kernel = rng.integers(-127, 128, (8, 1, 3, 3)).astype(np.int8)
    readout = rng.integers(-127, 128, (8, 8, 8, 8)).astype(np.int8)
    layers = (
        Layer(
            "conv",
            (8, 8, 8),
            (Synapse("input", kernel, (3, 3), (2, 2), (1, 1)),),
            np.zeros(8, np.int32),
            neuron,
            np.ones(8),
        ),
        Layer("output", (8, 1, 1), (Synapse("conv", readout, (8, 8)),), np.zeros(8, np.int32), None, np.ones(8)),
    )
    return verify(
        Network("strided", 1, (Input("input", image, CountRange(0, 255, 8), 1 / 255, (0.0,), (1.0,), image), *layers))
    )


def demo() -> Network:
    """Return the network of `polyspike demo`."""
    from polyspike.convert import Options, convert
    from polyspike.convert.demo import load_finetuned

    return convert(load_finetuned(Options()), name="demo")


NETWORKS: dict[str, Callable[[], Network]] = {"strided": strided, "demo": demo}


def measure(network: Network, configuration: Configuration, images: int, cycles_a_bit: int) -> Measurement:
    """Stream a batch of random images to a simulated board, and compare the results with the golden model's."""
    program = compile(network, configuration)
    batch = np.random.default_rng(1).integers(0, 256, (images, *network.input.image)).astype(np.uint8)
    transport, link = bring_up(configuration, fastest=max(BASE_BAUD, CLOCK_HZ // cycles_a_bit))
    if round(CLOCK_HZ / transport.baud) != cycles_a_bit:
        raise SystemExit(f"the simulated board can do 4, 5, 6, 7 and 8 cycles a bit, not {cycles_a_bit}")
    connection = Connection(link, configuration, "a simulated board", transport.close)
    with WordDevice(lambda _: connection, connection.description, configuration) as device:
        device.load(program)
        link.finish()
        transport.wires.clear_usage()
        result = device.infer(batch, progress=sys.stderr.isatty())
        usage = transport.wires.usage()
    with open_device("golden") as golden:
        golden.load(program)
        expected = golden.infer(batch)
    assert result.rates is not None
    return Measurement(
        network.name,
        configuration.name,
        cycles_a_bit,
        images,
        usage.sent / (10 * cycles_a_bit) / images,
        usage.sent / usage.span,
        usage.received / usage.span,
        result.rates.cycles / usage.span,
        result.membranes.size,
        int((result.membranes != expected.membranes).sum()),
    )


def main() -> int:
    """Run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="strided", help="default: strided")
    parser.add_argument("--config", default="tiny", metavar="NAME", help="hardware configuration (default: tiny)")
    parser.add_argument("--images", type=int, default=16, metavar="N", help="images of a batch (default: 16)")
    parser.add_argument(
        "--cycles-a-bit", type=int, nargs="+", default=[4, 8], metavar="N", help="rates, from 4 to 8 (default: 4 8)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    network, configuration = NETWORKS[options.network](), named(options.config)
    measurements = [measure(network, configuration, options.images, cycles) for cycles in options.cycles_a_bit]
    print(table(HEADINGS, [each.row() for each in measurements]))
    if options.json is not None:
        options.json.write_text(json.dumps([dataclasses.asdict(each) for each in measurements], indent=2) + "\n")
    kept = all(max(each.link_busy, each.core_busy) >= PROMISED and each.differing == 0 for each in measurements)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
