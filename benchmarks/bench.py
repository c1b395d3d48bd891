"""Measure what each layer costs on the simulated accelerator, and how fast the simulations are.

`make bench` runs this. It prints a table for each network and writes docs/bench.json and docs/benchmarks.md. Exits with
1 when columns are less busy than promised (see `PROMISED`), or when an integer differs from the golden model.

The demo network comes with the repository. The ResNet-20 needs `resnet20_cifar10.safetensors` and the CIFAR-10 (JPEG)
archives in $POLYSPIKE_SHARED_DATA, or in ../shared/data; it is left out where they are not.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from subjects import ROOT, SHARED, published_resnet20

from polyspike.cli.figures import LayerFigures, figures
from polyspike.cli.text import markdown, number, percent, table
from polyspike.compiler import compile
from polyspike.convert import Options, convert
from polyspike.convert import demo as checkpoint
from polyspike.convert.datasets import fashion_mnist
from polyspike.driver import Comparison, compare, open_device
from polyspike.network import Layer, Network
from polyspike.spec import NAMED, Configuration, named

#: In convolution layers with at least as many output channels as lanes, the lanes of all columns add a nonzero event in
#: at least this share of all cycles.
PROMISED = 0.75

HEADINGS = (
    "layer",
    "cycles",
    "events",
    "words",
    "zero words",
    "stall: word",
    "stall: port",
    "stall: fire",
    "idle",
    "density",
    "utilization",
)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One network on one configuration."""

    network: str
    data: str
    configuration: Configuration
    images: int
    comparison: Comparison
    layers: tuple[LayerFigures, ...]
    #: names of the layers that `PROMISED` is about
    convolutions: tuple[str, ...]
    #: simulated cycles a second while the device runs, link included
    simulated_rate: float
    golden_rate: float
    golden_images: int

    @property
    def cycles(self) -> float:
        """Cycles of the core for one image."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def utilization(self) -> float:
        """Share of column cycles with a nonzero event, over the convolutions that `PROMISED` is about."""
        chosen = [layer for layer in self.layers if layer.name in self.convolutions]
        cycles = sum(layer.cycles for layer in chosen) * self.configuration.columns
        return sum(layer.events for layer in chosen) / max(1.0, cycles)

    @property
    def below(self) -> tuple[str, ...]:
        """Names of such convolutions that alone are below what is promised."""
        return tuple(
            layer.name for layer in self.layers if layer.name in self.convolutions and layer.utilization < PROMISED
        )

    @property
    def verdict(self) -> str:
        """How the network stands against `PROMISED`, in one line."""
        text = (
            f"convolutions with at least {self.configuration.lanes} output channels: lanes add a nonzero event in "
            f"{percent(self.utilization)} of all cycles (promised: {percent(PROMISED, 0)})"
        )
        return text if not self.below else f"{text}; below it alone: {', '.join(self.below)}"

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table of layers."""
        rows = []
        for layer in self.layers:
            values = (layer.cycles, layer.events, layer.words, layer.zero_words)
            stalls = (layer.stall_fetch, layer.stall_port, layer.stall_drain, layer.stall_idle)
            numbers = [number(round(value)) for value in (*values, *stalls)]
            density = "" if layer.density is None else percent(layer.density)
            rows.append((layer.name, *numbers, density, percent(layer.utilization)))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        return {
            "network": self.network,
            "data": self.data,
            "configuration": self.configuration.name,
            "images": self.images,
            "integers_compared": self.comparison.compared,
            "integers_differing": self.comparison.differing,
            "cycles_per_image": round(self.cycles, 1),
            "convolution_utilization": round(self.utilization, 4),
            "convolutions": list(self.convolutions),
            "simulated_cycles_per_second": round(self.simulated_rate),
            "golden_images_per_second": round(self.golden_rate, 1),
            "layers": [
                {key: round(value, 4) if isinstance(value, float) else value for key, value in layer.to_dict().items()}
                for layer in self.layers
            ],
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network and real images for it."""

    network: Network
    data: str
    images: NDArray[np.uint8]


def subjects() -> Iterator[Subject]:
    """Yield every network there is data for."""
    test = fashion_mnist("test")
    network = convert(checkpoint.load_finetuned(Options()), name="demo", classes=test.classes)
    yield Subject(network, "Fashion-MNIST", test.images[:1000])
    if not SHARED.is_dir():
        print(f"no ResNet-20: there is no {SHARED}", file=sys.stderr)
        return
    resnet20 = published_resnet20(SHARED, training=256, test=100)
    trained, test = resnet20.trained, resnet20.test
    options = Options(mean=trained.mean, std=trained.std)
    network = convert(trained.model, resnet20.training.images, options, name="resnet20", classes=test.classes)
    yield Subject(network, test.name, test.images)


def measure(subject: Subject, configuration: Configuration, device: str, images: int) -> Measurement:
    """Run a network on the device and on the golden model."""
    program = compile(subject.network, configuration)
    some = subject.images[:images]
    with open_device(device, configuration) as opened:
        opened.load(program)
        # The rate is taken without traces, as a user would run it.
        before, start = opened.counters().cycles, time.perf_counter()
        opened.infer(some, progress=True)
        seconds = time.perf_counter() - start
        cycles = opened.counters().cycles - before
        result = opened.infer(some, progress=True, trace=True, profile=True)
    with open_device("golden", configuration) as golden:
        golden.load(program)
        comparison = compare(result, golden.infer(some, trace=True))
        start = time.perf_counter()
        golden.infer(subject.images, progress=True)
        golden_seconds = time.perf_counter() - start
    return Measurement(
        network=subject.network.name,
        data=subject.data,
        configuration=configuration,
        images=len(some),
        comparison=comparison,
        layers=figures(program, result),
        convolutions=tuple(_convolutions(subject.network, configuration.lanes)),
        simulated_rate=cycles / seconds,
        golden_rate=len(subject.images) / golden_seconds,
        golden_images=len(subject.images),
    )


def _convolutions(network: Network, lanes: int) -> Iterator[str]:
    """Yield the layers of at least `lanes` channels whose first synapse is a convolution over all channels."""
    for node in network:
        if isinstance(node, Layer):
            synapse = node.synapses[0]
            whole_map = synapse.window == network[synapse.source].shape[1:]
            if synapse.groups == 1 and not whole_map and node.shape[0] >= lanes:
                yield node.name


def page(measurements: list[Measurement]) -> str:
    """Return docs/benchmarks.md."""
    parts = [
        "<!-- Written by `make bench`. -->",
        "# Benchmarks",
        "Averages for one image at T = 1, from the hardware counters of the simulated gateware. Events are cycles in "
        "which a column added a nonzero count to its lanes; words are spike words fetched. The stalls are column "
        "cycles without an event: no fetched word was there yet, a column waited for a memory port, or for the fire "
        "unit. Idle columns had no work. Density is the share of nonzero counts in the layer's input; utilization is "
        "events / (cycles x columns).",
    ]
    for each in measurements:
        configuration = each.configuration
        parts += [
            f"## {each.network} on `{configuration.name}`, {each.data}",
            f"{configuration.columns} columns of {configuration.lanes} lanes, {each.images} images; against the golden "
            f"model, {number(each.comparison.differing)} of {number(each.comparison.compared)} integers differ.",
            markdown(HEADINGS, each.rows()),
            f"{number(round(each.cycles))} cycles an image. {each.verdict[0].upper()}{each.verdict[1:]}.",
        ]
    rates = [
        (each.network, each.configuration.name, f"{number(round(each.simulated_rate))}", f"{each.golden_rate:.0f}")
        for each in measurements
    ]
    parts += [
        "## Speed of the simulations",
        f"On {os.cpu_count()} cores of {platform.machine()}. Cycles of the core a second of wall time, the transfers "
        "over the simulated link included; images a second of the golden model.",
        markdown(("network", "configuration", "simulated cycles/s", "golden images/s"), rates, left=2),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10, help="images on the device (default: 10)")
    parser.add_argument("--config", choices=sorted(NAMED), default="large", help="configuration (default: large)")
    parser.add_argument("--device", default="sim", help="device (default: sim)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="where to write (default: docs)")
    options = parser.parse_args()
    measurements = []
    for subject in subjects():
        measurement = measure(subject, named(options.config), options.device, options.images)
        measurements.append(measurement)
        print(f"\n{measurement.network} ({measurement.data}) on {options.config}, for one image\n")
        print(table(HEADINGS, measurement.rows()))
        print(f"\n{number(round(measurement.cycles))} cycles an image; {measurement.comparison}")
        print(measurement.verdict)
        print(
            f"{number(round(measurement.simulated_rate))} simulated cycles/s, "
            f"{measurement.golden_rate:.0f} golden images/s\n"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps([each.to_dict() for each in measurements], indent=2)
    (options.output / "bench.json").write_text(text + "\n")
    (options.output / "benchmarks.md").write_text(page(measurements))
    missed = [each for each in measurements if each.utilization < PROMISED or each.comparison.differing]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
