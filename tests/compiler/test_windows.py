"""Windows over whole maps are divided among columns, and nothing but cycles changes."""

import numpy as np
import pytest

from compiler.test_compile import check, image_input, network, output, spiking, weights
from polyspike.compiler import Run, compile
from polyspike.compiler.lowering import Lowering
from polyspike.cosim.random_networks import random_images, random_network, with_random_firing
from polyspike.driver import compare, open_device
from polyspike.network import Layer, Synapse
from polyspike.spec import LARGE, SMALL, TINY
from polyspike.spec.instructions import FireKind, PassMode


def pooled(rng, source, channels, shape, **window):
    """Return an output layer that weights the sum over a window of a map of `shape`."""
    weight = rng.integers(-9, 10, (channels, shape[0], 1, 1)).astype(np.int8)
    synapse = Synapse(source, weight, **({"window": shape[1:]} | window))
    bias = rng.integers(-99, 99, channels).astype(np.int32)
    return Layer("output", (channels, 1, 1), (synapse,), bias, None, np.ones(channels))


def last_layer(timesteps, channels, shape, **window):
    """Return a network of one layer, then a sum over a window that is weighted."""
    rng = np.random.default_rng(timesteps)
    first = spiking(rng, "first", shape, Synapse("input", weights(rng, shape[0], 2, 1, 1), (1, 1)))
    return network(timesteps, image_input(2, *shape[1:]), first, pooled(rng, "first", channels, shape, **window))


def runs(program, layer):
    """Return the descriptors of a layer's RUNs, each (instruction, slot) -> fields."""
    found = []
    for segment in program.segments:
        for step in segment.steps:
            for block in step.blocks if isinstance(step, Run) else ():
                if block.layer == layer:
                    code = segment.instructions[block.first : block.first + block.count]
                    found.append({(each.format.name, each.values.get("slot", 0)): each.values for each in code})
    return found


def divided(program, layer="output"):
    """Assert that a layer's window is divided as its report says, and return (rows of parts, parts in a row)."""
    (mapping,) = [each.mapping for each in program.report if each.layer == layer]
    found = runs(program, layer)
    if not mapping.endswith(", window divided"):
        assert len(found) == 1
        return 1, 1
    parts, whole = found
    assert parts["FIRE", 0]["kind"] == FireKind.RAW != whole["FIRE", 0]["kind"]
    assert whole["WEIGHTS", 0]["mode"] == PassMode.RAW
    assert (whole["SHAPE", 0]["height"], whole["SHAPE", 0]["width"], whole["SHAPE", 0]["passes"]) == (1, 1, 1)
    division = parts["SHAPE", 0]["height"], parts["SHAPE", 0]["width"]
    assert division == (whole["WINDOW", 0]["kernel_h"], whole["WINDOW", 0]["kernel_w"])
    assert parts["SHAPE", 0]["position_log2"] > 0
    return division


@pytest.mark.parametrize("timesteps", [1, 2])
@pytest.mark.parametrize(
    ("configuration", "channels", "shape", "division"),
    [
        (LARGE, 10, (64, 14, 14), (1, 7)),
        (LARGE, 10, (64, 8, 8), (1, 8)),
        (LARGE, 10, (64, 16, 3), (8, 1)),
        (LARGE, 60, (64, 8, 8), (1, 2)),
        (LARGE, 10, (64, 1, 40), (1, 8)),
        (LARGE.replace(name="sixteen", columns=16), 10, (64, 8, 8), (2, 8)),
        (SMALL, 10, (64, 7, 8), (1, 2)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_idle_columns_take_parts_of_a_window(configuration, channels, shape, division, timesteps):
    net = last_layer(timesteps, channels, shape)
    assert divided(check(net, configuration, timesteps)) == division


@pytest.mark.parametrize(
    "window",
    [
        {"window": (6, 8), "stride": (7, 9)},  # taps of the map that no window has, below and right of it
        {"window": (8, 8), "stride": (5, 5), "padding": (1, 1)},  # rows above the map, and rows of it below the window
        {"window": (12, 14), "stride": (20, 20), "padding": (1, 2)},
    ],
)
def test_a_window_need_not_be_the_map(window):
    program = check(last_layer(2, 10, (64, 10, 10), **window), LARGE, 3)
    assert divided(program) != (1, 1)


@pytest.mark.parametrize(("depthwise", "random_firing"), [(False, False), (True, False), (False, True)])
def test_layers_that_spike(depthwise, random_firing):
    """Sums of parts are added up at each timestep, before a neuron fires."""
    rng = np.random.default_rng(7)
    shape = (32, 12, 12)
    weight = np.ones((32, 1, 1, 1), np.int8) if depthwise else rng.integers(-9, 10, (20, 32, 1, 1)).astype(np.int8)
    synapse = Synapse("first", weight, shape[1:], groups=32 if depthwise else 1)
    nodes = [
        image_input(2, *shape[1:]),
        spiking(rng, "first", shape, Synapse("input", weights(rng, 32, 2, 1, 1), (1, 1))),
        spiking(rng, "pool", (len(weight), 1, 1), synapse),
        output(rng, "pool", (len(weight), 1, 1)),
    ]
    net = network(3, *nodes)
    if not random_firing:
        assert divided(check(net, LARGE, 7), "pool") != (1, 1)
        return
    net = with_random_firing(net, 3)
    assert net["pool"].neuron.lfsr is not None
    configuration = LARGE.replace(name="large, probabilistic", probabilistic=1)
    program = compile(net, configuration)
    assert divided(program, "pool") != (1, 1)
    images = random_images(net, 7, 2)
    with open_device("machine", configuration) as machine, open_device("golden", configuration) as golden:
        for device in (machine, golden):
            device.load(program)
        assert compare(machine.infer(images, trace=True), golden.infer(images, trace=True)).differing == 0


def test_an_input_is_the_same_at_every_timestep():
    rng = np.random.default_rng(8)
    program = check(network(3, image_input(20, 14, 14), pooled(rng, "input", 10, (20, 14, 14))), LARGE, 8)
    assert divided(program) == (1, 7)


@pytest.mark.parametrize(
    ("configuration", "channels", "shape"),
    [
        (TINY, 10, (20, 7, 7)),  # one column
        (LARGE, 65, (64, 8, 8)),  # a tile for most columns
        (LARGE, 10, (64, 2, 2)),  # a second RUN takes longer than the window
        (LARGE, 10, (16, 6, 6)),  # so little is won that uneven parts could lose it
    ],
)
def test_where_columns_have_tiles_or_little_to_do_windows_are_whole(configuration, channels, shape):
    assert divided(check(last_layer(1, channels, shape), configuration, 1)) == (1, 1)


def test_weights_of_their_own_keep_a_window_whole():
    rng = np.random.default_rng(9)
    first = spiking(rng, "first", (32, 7, 7), Synapse("input", weights(rng, 32, 2, 1, 1), (1, 1)))
    program = check(network(1, image_input(2, 7, 7), first, output(rng, "first", (32, 7, 7))), LARGE, 9)
    assert divided(program) == (1, 1)


def test_where_sums_do_not_fit_the_window_is_whole():
    rng = np.random.default_rng(10)
    # 500 words, 8 of membranes, and 40 of the fewest sums.
    net = network(1, image_input(64, 5, 25), pooled(rng, "input", 10, (64, 5, 25)))
    for depth, division in ((512, (1, 1)), (1024, (1, 5))):
        program = check(net, LARGE.replace(name="shallow", spike_depth=depth), 10)
        assert program.resident and divided(program) == division


def test_where_a_second_run_does_not_fit_the_window_is_whole():
    """Nine RUNs of seven instructions are 63."""
    rng = np.random.default_rng(11)
    shape = (32, 8, 8)
    nodes = [image_input(2, 8, 8), spiking(rng, "n0", shape, Synapse("input", weights(rng, 32, 2, 1, 1), (1, 1)))]
    for index in range(1, 8):
        nodes.append(spiking(rng, f"n{index}", shape, Synapse(f"n{index - 1}", weights(rng, 32, 32, 1, 1), (1, 1))))
    net = network(2, *nodes, pooled(rng, "n7", 10, shape))
    for depth, division in ((64, (1, 1)), (128, (1, 8))):
        program = check(net, LARGE.replace(name="short", program_depth=depth), 11)
        assert program.resident and divided(program) == division


def test_no_network_takes_longer(monkeypatch):
    def cycles():
        return [
            program.cycles + program.setup_cycles()
            for seed in range(60, 110)
            for program in [compile(random_network(seed), LARGE)]
        ]

    now = cycles()
    monkeypatch.setattr(Lowering, "divisions", lambda self, node: [])
    before = cycles()
    assert all(a <= b for a, b in zip(now, before, strict=True))
    assert sum(a < b for a, b in zip(now, before, strict=True)) > 2
