"""Window rows in the input's words: where it is done, that it is exact, and that it stays inside the compiler."""

import dataclasses

import numpy as np
import pytest

from compiler.oracle import evaluate
from compiler.shadow import check_memory
from compiler.test_compile import SHRUNKEN, check, image_input, network, output, spiking, weights
from compiler.test_program import same
from polyspike.compiler import InputPacking, compile, listing, load_program, pack_input, save_program
from polyspike.compiler.packing import dense_input, pack_window_rows
from polyspike.cosim.random_networks import random_images
from polyspike.driver import compare, open_device
from polyspike.machine import Machine
from polyspike.network import CountRange, MaxPool, Synapse, quantize, verify
from polyspike.spec import LARGE, SMALL, TINY
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME

#: Channels, columns of the window, bits: all fit one word.
PIXELS = [(1, 2, 8), (1, 3, 8), (1, 5, 8), (2, 3, 8), (2, 4, 8), (1, 5, 4), (2, 5, 4), (3, 5, 4)]

HEIGHT, WIDTH = 4, 7


def first_layer(channels, kw, bits, stride=(1, 1), padding=(0, 0), *, kh=3, timesteps=1, counts=None, seed=0):
    """A network whose only reader of the input is a convolution."""
    rng = np.random.default_rng([seed, channels, kw, bits, *stride, *padding])
    source = image_input(channels, HEIGHT, WIDTH, bits)
    if counts is not None:
        source = dataclasses.replace(source, counts=counts, mean=(0.4,) * channels)
    weight = rng.integers(-9, 10, (20, channels, kh, kw)).astype(np.int8)
    synapse = Synapse("input", weight, (kh, kw), stride, padding, shift=int(rng.integers(0, 3)))
    shape = (20, *synapse.output_size(HEIGHT, WIDTH))
    return network(timesteps, source, spiking(rng, "first", shape, synapse), output(rng, "first", shape))


@pytest.mark.parametrize("configuration", [TINY, LARGE, SHRUNKEN[2], SHRUNKEN[3]], ids=lambda c: c.name)
@pytest.mark.parametrize(("channels", "kw", "bits"), PIXELS)
def test_results_are_those_of_the_network(channels, kw, bits, configuration):
    packed = 0
    for seed, stride_x in enumerate((1, 2, 3)):
        for padding in (0, 1, 2):
            net = first_layer(
                channels,
                kw,
                bits,
                (1 + seed % 2, stride_x),
                (1, padding),
                timesteps=1 + padding,
                counts=CountRange(1 << (bits - 1), (1 << (bits - 1)) - 1, bits) if padding == 1 else None,
                seed=seed,
            )
            program = check(net, configuration, seed)
            wider = net["first"].shape[2] > WIDTH
            wanted = None if wider else InputPacking("first", kw, stride_x, padding, net["first"].shape[2])
            assert program.packing == wanted
            assert program.network is net
            packed += not wider
    assert packed >= 7


@pytest.mark.parametrize("stride_x", [1, 2, 3])
@pytest.mark.parametrize("pad_x", [0, 1, 2])
def test_words_follow_the_definition(stride_x, pad_x):
    rng = np.random.default_rng(0)
    channels, kw, bits = 2, 3, 8
    counts = rng.integers(-128, 128, (channels, 4, 7)).astype(np.int16)
    width = (7 + 2 * pad_x - kw) // stride_x + 1
    words = pack_input(counts, bits, InputPacking("first", kw, stride_x, pad_x, width))
    assert words.shape == (4, width, 1)
    for y, x in np.ndindex(4, width):
        wanted = 0
        for c, kx in np.ndindex(channels, kw):
            at = x * stride_x - pad_x + kx
            if 0 <= at < 7:
                wanted |= (int(counts[c, y, at]) % 256) << bits * (c + channels * kx)
        assert int(words[y, x, 0]) == wanted


@pytest.mark.parametrize(("channels", "kw", "bits"), PIXELS)
def test_the_packed_network_is_equivalent(channels, kw, bits):
    net = first_layer(channels, kw, bits, (2, 2), (0, 1), timesteps=2)
    inner, packing = pack_window_rows(net)
    verify(inner)
    assert inner["first"].synapses[0].window == (3, 1)
    counts = quantize(net.input, random_images(net, 3, 1))[0]
    wanted, found = evaluate(net, counts), evaluate(inner, packing.apply(counts))
    assert np.array_equal(found[0], wanted[0])
    assert np.array_equal(found[1]["first"], wanted[1]["first"])


def test_a_linear_layer_on_a_small_map_is_packed():
    """The output layer may be the one that reads the input."""
    rng = np.random.default_rng(0)
    net = network(3, image_input(2, 5, 8), output(rng, "input", (2, 5, 8)))
    program = check(net, LARGE, 0)
    assert program.packing == InputPacking("output", 8, 1, 0, 1)
    assert program.maps["input"] == (1, 5, 1, 1)


def refused(case):
    rng = np.random.default_rng(1)
    shape = (20, HEIGHT, WIDTH)
    window = {"window": (3, 3), "padding": (1, 1)}
    conv = Synapse("input", weights(rng, 20, 1, 3, 3), **window)
    one = image_input(1, HEIGHT, WIDTH)
    if case == "two readers":
        second = Synapse("input", weights(rng, 20, 1, 1, 1), (1, 1))
        join = spiking(rng, "join", shape, Synapse("first", weights(rng, 20, 20, 1, 1), (1, 1)), second)
        return one, spiking(rng, "first", shape, conv), join
    if case == "two synapses of one layer":
        return one, spiking(rng, "first", shape, conv, dataclasses.replace(conv, shift=1))
    if case == "also pooled":
        pool = MaxPool("pool", (1, HEIGHT, WIDTH), "input", (3, 3), (1, 1), (1, 1))
        join = Synapse("pool", weights(rng, 20, 1, 1, 1), (1, 1)), Synapse("first", weights(rng, 20, 20, 1, 1), (1, 1))
        return one, spiking(rng, "first", shape, conv), pool, spiking(rng, "join", shape, *join)
    if case == "pooled first":
        pool = MaxPool("pool", (1, HEIGHT, WIDTH), "input", (3, 3), (1, 1), (1, 1))
        return one, pool, spiking(rng, "first", shape, dataclasses.replace(conv, source="pool"))
    if case == "grouped":
        synapse = Synapse("input", weights(rng, 20, 1, 3, 3), groups=2, **window)
        return image_input(2, HEIGHT, WIDTH), spiking(rng, "first", shape, synapse)
    if case == "depthwise":
        synapse = Synapse("input", weights(rng, 2, 1, 3, 3), groups=2, **window)
        return image_input(2, HEIGHT, WIDTH), spiking(rng, "first", (2, HEIGHT, WIDTH), synapse)
    if case == "depthwise with one channel":
        return one, spiking(rng, "first", (1, HEIGHT, WIDTH), Synapse("input", weights(rng, 1, 1, 3, 3), **window))
    if case == "shared":
        return one, spiking(rng, "first", shape, Synapse("input", weights(rng, 20, 1, 1, 1), **window))
    if case == "too many counts":
        synapse = Synapse("input", weights(rng, 20, 3, 3, 3), **window)
        return image_input(3, HEIGHT, WIDTH, 8), spiking(rng, "first", shape, synapse)
    if case == "one column":
        return one, spiking(rng, "first", shape, Synapse("input", weights(rng, 20, 1, 3, 1), (3, 1), padding=(1, 0)))
    assert case == "wider output"
    synapse = Synapse("input", weights(rng, 20, 1, 3, 2), (3, 2), padding=(1, 1))
    return one, spiking(rng, "first", (20, HEIGHT, WIDTH + 1), synapse)


@pytest.mark.parametrize(
    "case",
    [
        "two readers",
        "two synapses of one layer",
        "also pooled",
        "pooled first",
        "grouped",
        "depthwise",
        "depthwise with one channel",
        "shared",
        "too many counts",
        "one column",
        "wider output",
    ],
)
def test_where_it_would_cost_something_nothing_is_packed(case):
    nodes = refused(case)
    net = network(1, *nodes, output(np.random.default_rng(2), nodes[-1].name, nodes[-1].shape))
    assert pack_window_rows(net) == (net, None)
    program = check(net, LARGE, 0)
    assert program.packing is None
    assert not any("packed" in each.mapping for each in program.report)


@pytest.mark.parametrize("configuration", [LARGE, SHRUNKEN[3]], ids=lambda c: c.name)
def test_devices_show_the_original_counts(configuration):
    net = first_layer(1, 3, 8, (1, 2), (1, 1), timesteps=2)
    images = random_images(net, 5, 3)
    program = compile(net, configuration)
    assert program.packing is not None
    with open_device("machine", configuration) as device, open_device("golden") as golden:
        for each in (device, golden):
            each.load(program)
        found, wanted = device.infer(images, trace=True), golden.infer(images, trace=True)
    assert "0 of" in str(compare(found, wanted))
    assert np.array_equal(found.membranes, wanted.membranes)
    assert np.array_equal(found.counts["input"], np.repeat(quantize(net.input, images)[:, None], 2, axis=1))


def test_files_listing_and_report_say_so(tmp_path):
    program = compile(first_layer(1, 3, 8, (1, 2), (1, 1)), SMALL)
    save_program(program, tmp_path / "a.pspk")
    loaded = load_program(tmp_path / "a.pspk")
    assert loaded.packing == InputPacking("first", 3, 2, 1, 4)
    same(program, loaded)
    assert "each pixel of input holds a window row of first: 3 pixels, stride 2, padding 1" in listing(loaded)
    assert [each.layer for each in program.report if each.mapping.endswith(", window rows packed")] == ["first"]
    assert program.maps["input"] == (1, HEIGHT, 4, 1)


@pytest.mark.parametrize("configuration", [TINY, LARGE, *SHRUNKEN], ids=lambda c: c.name)
def test_programs_read_what_they_should(configuration):
    check_memory(compile(first_layer(2, 4, 8, (1, 1), (1, 1), timesteps=2), configuration))


#: Shape of the input, bits, and window, stride and padding of a packed row; None where it is not packed.
DENSE = [
    ((1, 5, 7), 8, None),
    ((3, 5, 7), 4, None),
    ((5, 3, 4), 4, None),
    ((8, 6, 3), 8, None),
    ((1, 5, 7), 8, (3, 1, 1)),
    ((1, 5, 7), 4, (5, 1, 2)),
    ((2, 9, 8), 8, (3, 2, 1)),
    ((3, 4, 9), 4, (4, 3, 0)),
    ((1, 28, 28), 8, (3, 1, 1)),
    ((3, 32, 32), 4, (5, 2, 2)),
]


@pytest.mark.parametrize("configuration", [TINY.replace(unpacker=1), SMALL], ids=lambda c: c.name)
@pytest.mark.parametrize(("shape", "bits", "window"), DENSE)
def test_dense_payloads_unpack_to_the_words_of_the_map(shape, bits, window, configuration):
    """Sent without gaps and unpacked by the simulator, an image is what `pack_input` makes of it."""
    rng = np.random.default_rng([*shape, bits])
    source = image_input(*shape, bits)
    net = network(1, source, output(rng, "input", shape))
    packing = None
    if window is not None:
        kw, stride, pad = window
        packing = InputPacking("first", kw, stride, pad, (shape[2] + 2 * pad - kw) // stride + 1)
    counts = rng.integers(-(1 << (bits - 1)), 1 << bits, shape).astype(np.int16)
    wanted = pack_input(counts, bits, packing).reshape(-1)
    dense = dense_input(net, configuration, packing)
    machine = Machine(configuration)
    machine.write(Space.REGISTERS, 0, BY_NAME["INPUT_LAYOUT"].address, [dense.layout.encode()])
    sent = 0
    for row in range(0, shape[1], dense.rows):
        rows = counts[:, row : row + dense.rows]
        payload = dense.payload(rows, bits, packing)
        assert len(payload) <= configuration.frame_words
        machine.write(Space.INPUT, rows.shape[1] * dense.row_words, 5 + row * dense.row_words, payload)
        sent += 8 * len(payload)
    np.testing.assert_array_equal(machine.read(Space.SPIKES, 5, len(wanted)), wanted)
    padding = shape[1] * shape[0] * bits // 8 * (2 * window[2] + 2 if window else 0)
    # Counts without gaps, the zeros around rows, and less than a word a frame.
    assert sent <= np.prod(shape) * bits // 8 + padding + 8 * -(-shape[1] // dense.rows)


def test_what_is_not_sent_densely():
    rng = np.random.default_rng(0)

    def dense(shape, bits, configuration):
        source = image_input(*shape, bits)
        return dense_input(network(1, source, output(rng, "input", shape)), configuration, None)

    unpacking = TINY.replace(unpacker=1)
    assert dense((16, 4, 4), 4, unpacking) is not None
    assert dense((17, 4, 4), 4, unpacking) is None  # two words a pixel
    assert dense((9, 4, 4), 8, unpacking) is None
    assert dense((1, 4, 4), 8, TINY) is None  # no unpacker
    assert dense((1, 1, 128), 8, unpacking) is not None
    assert dense((1, 1, 129), 8, unpacking) is None  # a row larger than a frame
