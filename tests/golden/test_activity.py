"""Activity against loops over every synapse."""

import numpy as np
import pytest

from golden.networks import random_images, random_network
from polyspike.compiler import Share
from polyspike.cosim.random_networks import with_events
from polyspike.golden import activity, densities, run
from polyspike.network import Input, Layer


def passed(synapse, counts):
    """Spikes times the synapses each passes, one output at a time; counts [channels, height, width]."""
    channels, height, width = counts.shape
    outputs = synapse.weight.shape[0]
    rows, columns = synapse.output_size(height, width)
    total = 0
    for output in range(outputs):
        first = output // (outputs // synapse.groups) * (channels // synapse.groups)
        for channel in range(first, first + channels // synapse.groups):
            for row in range(rows):
                for column in range(columns):
                    for y in range(synapse.window[0]):
                        for x in range(synapse.window[1]):
                            at_y = row * synapse.stride[0] + y - synapse.padding[0]
                            at_x = column * synapse.stride[1] + x - synapse.padding[1]
                            if 0 <= at_y < height and 0 <= at_x < width:
                                total += abs(int(counts[channel, at_y, at_x]))
    return total


def test_events_are_spikes():
    network = with_events(random_network(3, 2))
    limits = network.input.counts
    events = np.random.default_rng(0).integers(0, limits.n_pos + 1, (2, 2, *network.input.shape))
    counts = run(network, events, observe=True).counts
    measured = activity(network, counts)
    synops = 0
    for layer in network.nodes[1:]:
        for synapse in layer.synapses:
            synops += sum(passed(synapse, step) for image in counts[synapse.source] for step in image)
    assert measured.synops == pytest.approx(synops / 2)
    assert measured.input_macs == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_equal_plain_loops(seed):
    network = random_network(seed, 1 + seed % 2)
    counts = run(network, random_images(network, seed, 2), observe=True).counts
    measured = activity(network, counts)
    layers = [node for node in network if isinstance(node, Layer)]
    synops = input_macs = 0
    for layer in layers:
        for synapse in layer.synapses:
            if isinstance(network[synapse.source], Input):
                ones = np.ones(network[synapse.source].shape, int)
                input_macs += passed(synapse, ones) * network.timesteps
                continue
            for image in counts[synapse.source]:
                synops += sum(passed(synapse, step) for step in image)
    assert measured.synops == pytest.approx(synops / 2)
    assert measured.input_macs == input_macs
    assert measured.microjoules == pytest.approx((0.9 * synops / 2 + 4.6 * input_macs) * 1e-6)
    spiking = [layer for layer in layers if layer.neuron is not None]
    assert 0 < measured.neurons <= sum(int(np.prod(layer.shape)) for layer in spiking)
    assert measured.spikes <= sum(np.abs(counts[layer.name].astype(int)).sum() for layer in spiking) / 2


def test_densities_are_the_shares_that_are_not_zero():
    counts = {"half": np.array([[0, 3], [-1, 0]], np.int16), "none": np.zeros((2, 1, 3), np.int16)}
    found = densities(counts)
    assert {name: share.one for name, share in found.items()} == {"half": 0.5, "none": 0.0}
    # Never are both neighbours zero.
    assert found["half"].either(1) == 1.0 and found["none"].either(1) == 0.0
    assert densities({"column": np.array([[1], [0]])}) == {"column": Share(0.5)}


@pytest.mark.parametrize("again", [0.0, 0.4, 0.9])
def test_neighbours_are_measured(again):
    """Of rows in which a count is its left neighbour `again`, or else independent: any distance follows from one."""
    rng = np.random.default_rng(0)
    rows = rng.random((4000, 40)) < 0.3
    for x in range(1, 40):
        rows[:, x] = np.where(rng.random(4000) < again, rows[:, x - 1], rows[:, x])
    (share,) = densities({"rows": rows.astype(np.int16)}).values()
    assert share.alike == pytest.approx(again, abs=0.02)
    for distance in (1, 2, 3):
        either = (rows[:, distance:] | rows[:, :-distance]).mean()
        assert share.either(distance) == pytest.approx(either, abs=0.005)
