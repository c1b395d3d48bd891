"""Figures from the hardware counters: what run, demo and the benchmark share."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.compiler import Program
from polyspike.driver import Rates, Result
from polyspike.network import Input, Layer
from polyspike.spec import Configuration

from .text import number, percent, table


@dataclasses.dataclass(frozen=True)
class LayerFigures:
    """What one layer cost on average for an image, from the hardware counters, and how full its input was."""

    name: str
    #: cycles for one image
    cycles: float
    #: cycles in which a column added an event, summed over columns, for one image
    events: float
    #: spike words fetched for one image, and how many of them were all zero
    words: float
    zero_words: float
    #: column cycles without an event for one image, by cause
    stall_fetch: float
    stall_port: float
    stall_drain: float
    stall_idle: float
    #: nonzero counts of the layer's input / all counts of it; None where no counts were traced
    density: float | None
    #: column cycles in which lanes add a nonzero event / all column cycles
    utilization: float
    #: output channels / (tiles * lanes): the lanes of a tile that stand for a channel
    lanes_used: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        return dataclasses.asdict(self)


def input_density(program: Program, layer: str, counts: dict[str, NDArray[np.int16]]) -> float:
    """Return the fraction of the layer's input counts that are not zero, over all its sources."""
    node = program.network[layer]
    assert not isinstance(node, Input), "the input computes nothing, so it has no figures"
    sources = [synapse.source for synapse in node.synapses] if isinstance(node, Layer) else [node.source]
    nonzero = sum(int(np.count_nonzero(counts[source])) for source in sources)
    return nonzero / sum(counts[source].size for source in sources)


def figures(program: Program, result: Result) -> tuple[LayerFigures, ...]:
    """Return every layer's figures for one image, from a result with a profile."""
    configuration = program.configuration
    images = len(result.predictions)
    out = []
    for layer in result.profile or ():
        counters = layer.counters
        channels = program.network[layer.layer].shape[0]
        tiles = -(-channels // configuration.lanes)
        out.append(
            LayerFigures(
                name=layer.layer,
                cycles=counters.cycles / images,
                events=counters.events / images,
                words=counters.words / images,
                zero_words=counters.zero_words / images,
                stall_fetch=counters.stall_fetch / images,
                stall_port=counters.stall_port / images,
                stall_drain=counters.stall_drain / images,
                stall_idle=counters.stall_idle / images,
                density=None if result.counts is None else input_density(program, layer.layer, result.counts),
                utilization=counters.events / max(1, counters.cycles * configuration.columns),
                lanes_used=channels / (tiles * configuration.lanes),
            )
        )
    return tuple(out)


def figures_table(layers: Sequence[LayerFigures], configuration: Configuration) -> str:
    """Return the figures of all layers as a table."""
    rows = [
        (
            layer.name,
            number(round(layer.cycles)),
            number(round(layer.events)),
            "" if layer.density is None else percent(layer.density),
            percent(layer.utilization),
            f"{round(layer.lanes_used * configuration.lanes, 1):g} of {configuration.lanes}",
        )
        for layer in layers
    ]
    total = sum(layer.cycles for layer in layers)
    events = sum(layer.events for layer in layers)
    share = events / max(1, total * configuration.columns)
    rows.append(("all", number(round(total)), number(round(events)), "", percent(share), ""))
    return table(("layer", "cycles", "events", "density", "utilization", "lanes used"), rows)


def rates_text(rates: Rates) -> str:
    """Return two lines: how fast the core alone is, and how fast everything together."""
    core = f"core: {number(round(rates.cycles_per_image))} cycles an image"
    if rates.core_images_per_second is not None:
        assert rates.clock_hz is not None
        core += f", {number(round(rates.core_images_per_second))} images/s at {rates.clock_hz / 1e6:g} MHz"
    whole = f"end to end: {rates.images_per_second:.1f} images/s"
    if rates.sent is not None and rates.received is not None:
        sent, received = (number(round(count / rates.images)) for count in (rates.sent, rates.received))
        whole += f", {sent} bytes sent and {received} received an image"
    if rates.link_busy is not None:
        whole += f", link {percent(rates.link_busy)} busy"
    return f"{core}\n{whole}"
