"""Compiled programs on the instruction-set simulator equal an independent evaluation of their network."""

import numpy as np
import pytest

from compiler.host import execute
from compiler.oracle import evaluate
from polyspike.compiler import Upload, compile
from polyspike.cosim.random_networks import random_images, random_network, with_random_firing
from polyspike.driver import compare, open_device
from polyspike.network import CountRange, Input, Layer, MaxPool, Network, Neuron, Synapse, quantize, verify
from polyspike.spec import LARGE, SMALL, TINY

#: Configurations so small that almost everything is streamed: weights, maps, parameters and instructions.
SHRUNKEN = [
    TINY.replace(name="tiny, few weights", weight_depth=64),
    TINY.replace(name="tiny, few words", spike_depth=64),
    TINY.replace(name="tiny, little of all", weight_depth=64, spike_depth=64, param_depth=64, program_depth=64),
    SMALL.replace(name="small, little of all", weight_depth=64, spike_depth=128, param_depth=64, program_depth=64),
    LARGE.replace(name="large, little of all", weight_depth=64, spike_depth=128, param_depth=64, program_depth=64),
]


PROBABILISTIC = [
    each.replace(name=f"{each.name}, probabilistic", probabilistic=1, spike_depth=max(each.spike_depth, 128))
    for each in (TINY, SMALL, LARGE, *SHRUNKEN[2:])
]


def check(network, configuration, seed, batch=1):
    """Assert that every count and membrane agrees, and return the program."""
    inputs = quantize(network.input, random_images(network, seed, batch))
    program = compile(network, configuration)
    membranes, counts = execute(program, inputs)
    for image in range(batch):
        wanted, maps = evaluate(network, inputs[image])
        for name, found in counts[image].items():
            assert np.array_equal(found, maps[name]), f"{network.name} on {configuration.name}: layer {name} differs"
        assert np.array_equal(membranes[image], wanted), f"{network.name} on {configuration.name}: membranes differ"
    return program


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE], ids=lambda c: c.name)
@pytest.mark.parametrize("first", range(0, 200, 10))
def test_random_networks(first, configuration):
    for seed in range(first, first + 10):
        check(random_network(seed), configuration, seed)


@pytest.mark.parametrize("configuration", SHRUNKEN, ids=lambda c: c.name)
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_networks_where_nothing_fits(first, configuration):
    segments = [
        len(check(random_network(seed), configuration, seed, batch=1 + seed % 2).segments)
        for seed in range(first + SHRUNKEN.index(configuration), first + 20, 5)
    ]
    assert max(segments) > 1 or configuration.weight_depth > 64


def test_random_networks_are_diverse():
    """The comparison means little where counts are all zero or all saturated."""
    nonzero, saturated = [], []
    for seed in range(40):
        network = random_network(seed)
        inputs = quantize(network.input, random_images(network, seed, 1))
        for name, counts in evaluate(network, inputs[0])[1].items():
            limits = network.counts(name)
            nonzero.append((counts != 0).mean())
            saturated.append((counts == limits.n_pos).mean())
    assert 0.3 < np.mean(nonzero) < 0.9
    assert np.mean(saturated) < 0.4


# Particular shapes


def image_input(channels, height, width, bits=4):
    shape = (channels, height, width)
    top = (1 << bits) - 1
    return Input("input", shape, CountRange(0, top, bits), 1 / top, (0.0,) * channels, (1.0,) * channels, shape)


def weights(rng, *shape):
    return rng.integers(-127, 128, shape).astype(np.int8)


def spiking(rng, name, shape, *synapses, counts=None):
    counts = counts or CountRange(3, 12, 4)
    theta = rng.integers(200, 2000, shape[0]).astype(np.int32)
    bias = rng.integers(-500, 500, shape[0]).astype(np.int32)
    return Layer(name, shape, synapses, bias, Neuron(counts, theta, theta // 2), np.ones(shape[0]))


def output(rng, source, shape, channels=10):
    weight = rng.integers(-9, 10, (channels, *shape)).astype(np.int8)
    synapse = Synapse(source, weight, shape[1:])
    return Layer("output", (channels, 1, 1), (synapse,), np.zeros(channels, np.int32), None, np.ones(channels))


def network(timesteps, *nodes):
    return verify(Network("particular", timesteps, nodes))


@pytest.mark.parametrize("configuration", [TINY, LARGE, *SHRUNKEN], ids=lambda c: c.name)
def test_many_synapses_into_one_membrane(configuration):
    """More sources than a RUN has passes are chained through partial sums."""
    rng = np.random.default_rng(1)
    shape = (20, 4, 5)
    nodes = [image_input(3, 4, 5), spiking(rng, "first", shape, Synapse("input", weights(rng, 20, 3, 1, 1), (1, 1)))]
    synapses = [
        Synapse("first", weights(rng, 20, 20, 3, 3), (3, 3), padding=(1, 1)),
        Synapse("first", weights(rng, 20, 1, 1, 1), (1, 1), groups=20, shift=3),
        Synapse("input", weights(rng, 20, 3, 1, 1), (1, 1)),
        Synapse("input", weights(rng, 20, 3, 3, 3), (3, 3), padding=(1, 1), shift=1),
        Synapse("first", weights(rng, 20, 1, 3, 3), (3, 3), padding=(1, 1), groups=20),
    ]
    nodes += [spiking(rng, "join", shape, *synapses), output(rng, "join", shape)]
    program = check(network(2, *nodes), configuration, 1)
    if configuration is LARGE:
        assert program.resident


@pytest.mark.parametrize("configuration", [TINY, SMALL, SHRUNKEN[2]], ids=lambda c: c.name)
@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(2, 40, 64), (4, 24, 36), (10, 30, 20), (3, 9, 27)])
def test_grouped_convolutions(configuration, groups, inputs, outputs):
    rng = np.random.default_rng(groups)
    nodes = [
        image_input(inputs, 4, 4),
        spiking(
            rng,
            "grouped",
            (outputs, 4, 4),
            Synapse("input", weights(rng, outputs, inputs // groups, 3, 3), (3, 3), (1, 1), (1, 1), groups),
        ),
        output(rng, "grouped", (outputs, 4, 4)),
    ]
    check(network(1, *nodes), configuration, groups)


@pytest.mark.parametrize("configuration", [TINY, SHRUNKEN[1], SHRUNKEN[3]], ids=lambda c: c.name)
@pytest.mark.parametrize("window", [(3, 3), (9, 10), (5, 12)])
def test_max_pooling_with_large_windows(configuration, window):
    """A window that does not fit the spike memory is pooled by rows first."""
    rng = np.random.default_rng(2)
    size = [(11 + 2 - window[0]) // 2 + 1, (13 - window[1]) // 2 + 1]
    shape = (20, *size)
    nodes = [
        image_input(20, 11, 13, 8),
        MaxPool("pool", shape, "input", window, (2, 2), (1, 0)),
        output(rng, "pool", shape),
    ]
    program = check(network(1, *nodes), configuration, 2)
    assert [each.layer for each in program.report] == ["pool", "output"]


def test_dimensions_beyond_the_instruction_fields():
    """Maps wider and strides longer than a field can say are cut in slabs."""
    rng = np.random.default_rng(3)
    wide = spiking(rng, "wide", (8, 1, 1033), Synapse("input", weights(rng, 8, 1, 1, 17), (1, 17), (1, 2)))
    far = spiking(rng, "far", (8, 1, 52), Synapse("wide", weights(rng, 8, 8, 1, 3), (1, 3), (1, 20)))
    nodes = [image_input(1, 1, 2081, 8), wide, far, output(rng, "far", (8, 1, 52))]
    program = check(network(1, *nodes), TINY.replace(spike_depth=16384), 3)
    reasons = {each.layer: each.reason for each in program.report}
    assert "1 x 2081" in reasons["wide"]
    assert "1 x 1033" in reasons["far"]


def test_many_timesteps_in_a_small_memory():
    rng = np.random.default_rng(4)
    shape = (16, 2, 2)
    nodes = [
        image_input(40, 4, 4),
        spiking(rng, "first", shape, Synapse("input", weights(rng, 16, 40, 3, 3), (3, 3))),
        spiking(rng, "second", shape, Synapse("first", weights(rng, 16, 16, 1, 1), (1, 1))),
        output(rng, "second", shape),
    ]
    check(network(30, *nodes), TINY.replace(weight_depth=64, spike_depth=512), 4)


def test_thousands_of_channels():
    """A source pixel of more words than a field can say is read in parts."""
    rng = np.random.default_rng(5)
    nodes = [image_input(9000, 1, 1, 8), output(rng, "input", (9000, 1, 1))]
    program = check(network(1, *nodes), SMALL.replace(membrane_bits=32), 5)
    assert "words" in program.report[0].reason


def test_a_network_that_fits_uploads_only_its_input():
    program = compile(random_network(3), LARGE)
    assert program.resident
    uploads = [step.box.map for segment in program.segments for step in segment.steps if isinstance(step, Upload)]
    assert uploads == ["input"]
    assert {each.residency for each in program.report} == {"resident"}


def test_random_firing_wherever_it_is_computed():
    """The same numbers, and so the same spikes, whole or in slabs, by one column or by eight."""
    streamed = 0
    for seed in range(2, 14):
        configuration = PROBABILISTIC[seed % len(PROBABILISTIC)]
        network = with_random_firing(random_network(seed), seed)
        images = random_images(network, seed, 2)
        program = compile(network, configuration)
        with open_device("machine", configuration) as machine, open_device("golden", configuration) as golden:
            for device in (machine, golden):
                device.load(program)
            comparison = compare(machine.infer(images, trace=True), golden.infer(images, trace=True))
        assert comparison.differing == 0, f"seed {seed} on {configuration.name}: {comparison}"
        streamed += len(program.segments) > 1
    assert streamed > 2
