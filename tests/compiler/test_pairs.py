"""Pairs of positions: where RUNs work on them, that it is exact, and what it is predicted to be worth."""

import dataclasses

import numpy as np
import pytest

from compiler.shadow import check_memory
from compiler.test_compile import check, image_input, network, output, spiking, weights
from compiler.test_windows import runs
from polyspike.compiler import Share, compile, pack_input
from polyspike.compiler.lowering import Lowering
from polyspike.compiler.mapping import OVERHEAD, can_pair, fastest, launch_cycles
from polyspike.compiler.schedule import Launch, Scheduler
from polyspike.cosim.random_networks import paired_network, random_images, random_network, with_events
from polyspike.driver import compare, open_device
from polyspike.golden import densities
from polyspike.machine import Machine
from polyspike.network import CountRange, Layer, MaxPool, Synapse
from polyspike.spec import LARGE, LARGE_PAIRS, SMALL
from polyspike.spec.lfsr import TAPS, Lfsr
from polyspike.spec.memory import Space

TWO = LARGE_PAIRS.replace(
    name="two columns", columns=2, read_ports=1, weight_depth=512, spike_depth=1024, param_depth=128
)
ONE = LARGE_PAIRS.replace(
    name="one column of 8 lanes", columns=1, lanes=8, read_ports=1, fire_width=1, weight_depth=1024, spike_depth=1024
)
#: So small that almost everything is streamed.
LITTLE = [
    each.replace(
        name=f"{each.name}, little of all", weight_depth=64, spike_depth=128, param_depth=64, program_depth=64, pairs=1
    )
    for each in (LARGE, SMALL.replace(fabric_lanes=0), ONE)
]
PAIRED = [LARGE_PAIRS, TWO, ONE, *LITTLE]


def shares(program):
    """Return the RUNs of a program that are in pairs, and all of them."""
    shapes = [fields["SHAPE", 0] for node in program.report for fields in runs(program, node.layer)]
    return sum(shape["pairs"] for shape in shapes), len(shapes)


@pytest.mark.parametrize("configuration", PAIRED, ids=lambda c: c.name)
def test_random_networks(configuration):
    """Many of whose layers are paired, at one timestep and at several, and any others."""
    found = []
    for seed in range(40):
        found.append(shares(check(paired_network(seed), configuration, seed, batch=1 + seed % 2)))
        check(random_network(seed), configuration, seed)
    paired, all_ = (sum(each) for each in zip(*found, strict=True))
    assert paired > (0.3 if configuration in (TWO, ONE) else 0.03) * all_
    assert {paired_network(seed).timesteps for seed, (some, _) in enumerate(found) if some} == {1, 2, 3, 4}


@pytest.mark.parametrize("configuration", [LARGE_PAIRS, TWO, ONE], ids=lambda c: c.name)
def test_devices_compute_the_golden_models_integers(configuration):
    paired = 0
    for seed in range(40, 60):
        net = paired_network(seed)
        if net.timesteps > 1 and seed % 2:
            net = with_events(net)
        images = random_images(net, seed, 2)
        program = compile(net, configuration)
        paired += shares(program)[0]
        with open_device("machine", configuration) as machine, open_device("golden", configuration) as golden:
            for device in (machine, golden):
                device.load(program)
            comparison = compare(machine.infer(images, trace=True), golden.infer(images, trace=True))
        assert comparison.differing == 0, f"seed {seed} on {configuration.name}: {comparison}"
    assert paired >= 10


@pytest.mark.parametrize("configuration", PAIRED, ids=lambda c: c.name)
def test_programs_read_what_they_should(configuration):
    for seed in range(12):
        check_memory(compile(paired_network(seed), configuration))


def test_weights_and_parameters_do_not_depend_on_pairs():
    """Where columns are mapped alike."""
    for seed in range(20):
        paired, alone = (compile(paired_network(seed), TWO.replace(pairs=pairs)) for pairs in (1, 0))
        assert shares(alone)[0] == 0
        if [each.weight_rows for each in paired.report] != [each.weight_rows for each in alone.report]:
            continue
        for first, second in zip(paired.segments, alone.segments, strict=True):
            assert [(each.space, each.mask, each.address) for each in first.writes] == [
                (each.space, each.mask, each.address) for each in second.writes
            ]
            assert all(
                np.array_equal(a.words, b.words) for a, b in zip(first.writes[:-1], second.writes[:-1], strict=True)
            )


# Where layers are paired


def layers(kernel=(3, 3), stride=(1, 1), padding=(1, 1), size=(6, 8), channels=(16, 16), bits=4, shift=0):
    """Return the nodes up to a convolution whose RUN can be paired, if nothing is changed."""
    rng = np.random.default_rng(0)
    synapse = Synapse("input", weights(rng, channels[1], channels[0], *kernel), kernel, stride, padding, shift=shift)
    shape = (channels[1], *synapse.output_size(*size))
    return [image_input(channels[0], *size, bits), spiking(rng, "first", shape, synapse)]


def closed(*nodes):
    """Return a network of these nodes and an output layer."""
    return network(1, *nodes, output(np.random.default_rng(1), nodes[-1].name, nodes[-1].shape))


def mapping(net, configuration=TWO, layer="first"):
    """Check the network, and return how a layer is mapped."""
    (found,) = [each.mapping for each in check(net, configuration, 0).report if each.layer == layer]
    return found


def test_a_convolution_is_paired():
    assert mapping(closed(*layers())) == "2 positions x 1 tile, in pairs"
    assert mapping(closed(*layers()), LARGE) == "8 positions x 1 tile"
    program = compile(closed(*layers(stride=(1, 2), size=(6, 16))), TWO)
    (fields,) = runs(program, "first")
    assert (fields["SHAPE", 0]["width"], fields["SHAPE", 0]["height"], fields["SHAPE", 0]["pairs"]) == (4, 6, 1)
    assert fields["WINDOW", 0]["stride_x"] == 4
    assert fields["OUTPUT", 0]["pixel_pitch"] == 2 and fields["OUTPUT", 0]["row_pitch"] == 8


def test_a_single_pair_has_a_stride():
    """Strides of a single position are never taken, but the second one of a pair is a stride away."""
    program = check(closed(*layers(stride=(2, 2), size=(1, 4))), ONE, 0)
    (fields,) = runs(program, "first")
    assert (fields["SHAPE", 0]["width"], fields["SHAPE", 0]["height"], fields["SHAPE", 0]["pairs"]) == (1, 1, 1)
    assert fields["WINDOW", 0]["stride_x"] == 4 and fields["WINDOW", 0]["stride_y"] == 1


def test_slabs_are_paired():
    net = closed(*layers(size=(24, 24), channels=(32, 16)))
    program = check(net, TWO, 0)
    assert (program.report[0].residency, program.report[0].mapping) == (
        "weights and maps streamed",
        "2 positions x 1 tile, in pairs",
    )
    assert {fields["SHAPE", 0]["height"] for fields in runs(program, "first")} == {12}


def joined(synapses):
    """Return a layer that adds up the input in several ways."""
    rng = np.random.default_rng(2)
    one = Synapse("input", weights(rng, 16, 16, 3, 3), (3, 3), padding=(1, 1))
    return closed(image_input(16, 6, 8), spiking(rng, "first", (16, 6, 8), *[one] * synapses))


def pooled():
    return [image_input(16, 6, 8), MaxPool("first", (16, 3, 4), "input", (2, 2), (2, 2), (0, 0))]


def last(channels):
    """Return a layer of membranes, a word for two channels."""
    rng = np.random.default_rng(5)
    synapse = Synapse("input", weights(rng, channels, 8, 3, 3), (3, 3), padding=(1, 1))
    bias = np.zeros(channels, np.int32)
    return [image_input(8, 1, 2), Layer("output", (channels, 1, 2), (synapse,), bias, None, np.ones(channels))]


def random_firing():
    source, first = layers()
    theta = np.full(16, 5000, np.int32)
    neuron = dataclasses.replace(
        first.neuron, counts=CountRange(0, 1, 4), theta=theta, v0=0 * theta, lfsr=Lfsr(TAPS, 5)
    )
    return [source, dataclasses.replace(first, neuron=neuron)]


def test_depthwise_layers_and_two_passes_are_paired():
    assert mapping(joined(2)).endswith(", in pairs")
    rng = np.random.default_rng(3)
    own = Synapse("input", weights(rng, 16, 1, 5, 5), (5, 5), padding=(2, 2), groups=16, shift=3)
    assert mapping(closed(image_input(16, 6, 8), spiking(rng, "first", (16, 6, 8), own))).endswith(", in pairs")


def launches(net, configuration):
    """Return a lowering and its launches."""
    lowering = Lowering(net, configuration)
    items = list(Scheduler(lowering, lambda _: 0).items())
    return lowering, [step for item in items for step in item.steps if isinstance(step, Launch)]


#: Has room for many channels.
ROOM = ONE.replace(weight_depth=65536, spike_depth=4096, param_depth=2048)


@pytest.mark.parametrize(
    ("allowed", "net", "configuration"),
    [
        (False, lambda: layers(bits=8), TWO),
        (True, lambda: layers(shift=1), TWO),
        (False, lambda: layers(shift=2), TWO),
        (False, lambda: layers(size=(6, 7)), TWO),
        (True, lambda: layers((1, 1), (1, 7), (0, 0), (2, 8)), TWO),
        (False, lambda: layers((1, 1), (1, 8), (0, 0), (2, 9)), TWO),
        (True, lambda: layers((1, 4), (1, 4), (0, 2), (12, 4)), TWO),
        (False, lambda: layers((1, 4), (1, 5), (0, 3), (12, 4)), TWO),
        (True, lambda: layers((1, 1), (1, 3), (0, 0), (1, 4), (384, 16)), ONE.replace(spike_depth=256)),
        (False, lambda: layers((1, 1), (1, 3), (0, 0), (1, 4), (384, 16)), ONE.replace(spike_depth=128)),
        (True, lambda: last(1008), ROOM),
        (False, lambda: last(1024), ROOM),
        (False, pooled, TWO),
        (False, random_firing, TWO.replace(probabilistic=1)),
        (False, layers, TWO.replace(pairs=0)),
    ],
)
def test_what_can_be_paired(allowed, net, configuration):
    nodes = net()
    lowering, found = launches(network(1, *nodes) if nodes[-1].name == "output" else closed(*nodes), configuration)
    assert {can_pair(lowering, launch) for launch in found if launch.task.node is nodes[-1]} == {allowed}


def test_sums_are_continued_one_by_one():
    """The first RUN is in pairs, the one that reads its sums is not."""
    assert mapping(joined(3)) == "2 positions x 1 tile, partly in pairs, 2 parts"


# What it is worth


@pytest.mark.parametrize("density", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("again", [0.0, 0.7])
def test_events_are_those_of_counts_that_are_so_alike(density, stride, again):
    """The predicted cycles of a layer that events dominate, against the events of random counts."""
    net = closed(*layers(size=(10, 12), stride=(1, stride), channels=(64, 16)))
    configuration = ONE.replace(lanes=16, spike_depth=4096)
    rng = np.random.default_rng(int(100 * density))
    marks = rng.random((4, *net.input.shape)) < density
    for x in range(1, marks.shape[-1]):
        marks[..., x] = np.where(rng.random(marks.shape[:-1]) < again, marks[..., x - 1], marks[..., x])
    inputs = rng.integers(1, 16, marks.shape) * marks
    for pairs in (0, 1):
        program = compile(net, configuration.replace(pairs=pairs), density=densities({"input": inputs}))
        machine = Machine(program.configuration)
        for write in program.segments[0].writes:
            machine.write(write.space, write.mask, write.address, write.words)
        upload, run, _ = program.segments[0].steps
        for counts in inputs:
            words = pack_input(counts, 4, None)
            machine.write(Space.SPIKES, 0, upload.box.address, words.reshape(-1))
            machine.run(run.blocks[0].first, run.blocks[0].count)
        assert shares(program)[0] == pairs
        assert program.report[0].cycles - OVERHEAD == pytest.approx(machine.cycles / len(inputs), rel=0.05)


def test_what_is_not_measured_is_assumed():
    net = closed(*layers(size=(10, 12), channels=(64, 16)))
    configuration = ONE.replace(lanes=16, spike_depth=4096)

    def cycles(density):
        return compile(net, configuration, density=density).report[0].cycles

    assert cycles({}) == cycles(0.5) == cycles({"input": 0.5}) == cycles({"input": Share(0.5)})
    assert cycles({"input": Share(0.5, 1.0)}) < cycles(0.5) < cycles({"input": Share(0.5, 0.0)})


def test_pairs_are_taken_where_they_are_faster():
    for seed in range(30):
        lowering, found = launches(paired_network(seed), TWO)
        for launch in found:
            for position_log2 in range(2):
                options = {False} | ({True} if can_pair(lowering, launch) else set())
                cycles = {pairs: launch_cycles(lowering, launch, position_log2, 0.5, pairs) for pairs in options}
                best, pairs = fastest(lowering, launch, position_log2, 0.5)
                assert best == min(cycles.values()) == cycles[pairs]
                assert not pairs or cycles[False] > best


def test_no_network_is_predicted_to_take_longer_than_by_a_cycle_a_sum():
    """Single positions are fired where they are, so the next one's sums come a cycle later than without pairs."""
    groups = TWO.lanes / TWO.fire_width
    for seed in range(30):
        net = paired_network(seed)
        assert compile(net, TWO).cycles <= (groups + 2) / (groups + 1) * compile(net, TWO.replace(pairs=0)).cycles
