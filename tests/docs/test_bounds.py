"""The bounds of `make bench`: events of a network's spikes, against loops over every product."""

import numpy as np
import pytest

from polyspike.convert import Options, convert
from polyspike.convert.models import build
from polyspike.golden import run
from polyspike.network import quantize


@pytest.fixture(scope="module")
def small():
    """A residual network on images of 10 x 10, so that widths are 10, 5 and 3, and its counts for two images."""
    import torch

    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 10, 10), np.uint8)
    network = convert(build("resnet8", (3, 10, 10)).eval(), images, Options())
    return network, run(network, quantize(network.input, images), observe=True).counts


def tap(image, synapse, place, offset):
    """Return which channels of an image [channels, height, width] are not zero at a tap; outside it none is."""
    row, column = (
        out * stride + tap - padding
        for out, stride, tap, padding in zip(place, synapse.stride, offset, synapse.padding, strict=True)
    )
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[:, row, column] != 0 if inside else np.zeros(len(image), bool)


def naive(network, node, counts, lanes):
    """Walk over positions and taps; return events one by one, and with positions 2x and 2x + 1 together."""
    channels, height, width = node.shape
    alone, paired = 0, 0
    for synapse in node.synapses:
        if synapse.depthwise:
            continue
        images = counts[synapse.source][:, 0]
        narrow = network.counts(synapse.source).bits == 4
        for image in images:
            for y, x, *offset in np.ndindex(height, width, *synapse.window):
                here = tap(image, synapse, (y, x), offset)
                alone += here.sum()
                if not narrow:
                    paired += here.sum()
                elif x % 2 == 0:
                    there = tap(image, synapse, (y, x + 1), offset) if x + 1 < width else False
                    paired += (here | there).sum()
    tiles = -(-channels // lanes)
    return tiles * alone / len(images), tiles * paired / len(images)


def test_events_are_those_of_a_walk_over_every_tap(benchmark, small):
    network, counts = small
    found = benchmark("bounds").events(network, counts, 16)
    layers = [node for node in network if getattr(node, "synapses", None)]
    assert list(found) == [node.name for node in layers]
    assert {node.shape[2] for node in layers} == {10, 5, 3, 1}
    for node in layers:
        assert found[node.name] == naive(network, node, counts, 16)
    assert sum(paired for _, paired in found.values()) < 0.8 * sum(alone for alone, _ in found.values())
