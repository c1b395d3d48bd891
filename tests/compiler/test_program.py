"""Program files, listing, report, determinism, and what the compiler refuses."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from compiler.host import execute
from compiler.test_compile import SHRUNKEN, image_input, network, output, spiking, weights
from polyspike.compiler import compile, listing, load_program, save_program
from polyspike.cosim.random_networks import paired_network, random_images, random_network
from polyspike.golden import densities
from polyspike.machine import Machine
from polyspike.network import CountRange, MaxPool, Neuron, Synapse, quantize, save
from polyspike.network.file import read_tensors, write_tensors
from polyspike.spec import LARGE, LARGE_PAIRS, SMALL, TINY, CompileError, FileFormatError, MembraneOverflowError
from polyspike.spec.instructions import RANDOM, RandomValue, encode
from polyspike.spec.lfsr import TAPS, Lfsr
from polyspike.spec.memory import Space


def same(first, second):
    assert first.configuration == second.configuration
    assert first.maps == second.maps
    assert first.report == second.report
    assert first.packing == second.packing
    for a, b in zip(first.segments, second.segments, strict=True):
        assert a.steps == b.steps
        assert [encode(i) for i in a.instructions] == [encode(i) for i in b.instructions]
        for x, y in zip(a.writes, b.writes, strict=True):
            assert (x.space, x.mask, x.address) == (y.space, y.mask, y.address)
            assert np.array_equal(x.words, y.words)


@pytest.mark.parametrize("configuration", [TINY, SHRUNKEN[2], LARGE, LARGE_PAIRS], ids=lambda c: c.name)
def test_files_hold_the_whole_program(tmp_path, configuration):
    net = random_network(5)
    program = compile(net, configuration)
    save_program(program, tmp_path / "a.pspk")
    loaded = load_program(tmp_path / "a.pspk")
    same(program, loaded)
    save_program(loaded, tmp_path / "b.pspk")
    assert (tmp_path / "a.pspk").read_bytes() == (tmp_path / "b.pspk").read_bytes()
    inputs = quantize(net.input, random_images(net, 5, 2))
    assert np.array_equal(execute(program, inputs)[0], execute(loaded, inputs)[0])


def test_compiling_twice_gives_the_same_bytes(tmp_path):
    """Also in another process with another hash seed."""
    code = (
        "import sys; from polyspike.compiler import compile, save_program; from polyspike.spec import SMALL; "
        "from polyspike.cosim.random_networks import random_network; "
        "save_program(compile(random_network(11), SMALL.replace(weight_depth=64)), sys.argv[1])"
    )
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, tmp_path / seed], check=True, env=environment)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_damaged_files_are_refused(tmp_path):
    path, bad = tmp_path / "a.pspk", tmp_path / "bad.pspk"
    net = random_network(6)
    save_program(compile(net, TINY), path)
    data = path.read_bytes()
    with pytest.raises(FileFormatError, match="no such file"):
        load_program(tmp_path / "missing.pspk")
    for size in (0, 5, 100, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:size])
        with pytest.raises(FileFormatError, match="truncated"):
            load_program(bad)
    for at in (len(data) - 1, len(data) * 3 // 4):
        bad.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(FileFormatError, match="altered or damaged"):
            load_program(bad)
    bad.write_bytes(data.replace(b'\\"timesteps\\": ', b'\\"timesteps\\":1'))
    with pytest.raises(FileFormatError, match="altered or damaged"):
        load_program(bad)
    save(net, bad)
    with pytest.raises(FileFormatError, match="'polyspike network', but a 'polyspike program' file is needed"):
        load_program(bad)
    header, arrays = read_tensors(path, "polyspike program", 4)
    write_tensors(bad, "polyspike program", 7, header, arrays)
    with pytest.raises(FileFormatError, match="format version 7, but this release reads version 4"):
        load_program(bad)
    write_tensors(bad, "polyspike program", 4, {**header, "digest": "0" * 16}, arrays)
    with pytest.raises(FileFormatError, match="another architecture version"):
        load_program(bad)
    del header["maps"]
    write_tensors(bad, "polyspike program", 4, header, arrays)
    with pytest.raises(FileFormatError, match=r"incomplete.*maps"):
        load_program(bad)


def test_listing_names_everything():
    program = compile(random_network(7), SHRUNKEN[3])
    text = listing(program)
    for node in program.network:
        assert node.name in text
    assert text.count("segment ") == len(program.segments)
    words = [int(word, 16) for word in re.findall(r"0x[0-9a-f]{16}", text)]
    assert words == [encode(each) for segment in program.segments for each in segment.instructions]


def test_report_says_what_was_decided():
    program = compile(random_network(7), LARGE)
    assert [each.layer for each in program.report] == [node.name for node in program.network.nodes[1:]]
    for each in program.report:
        assert re.fullmatch(r"\d positions? x \d tiles?", each.mapping)
        assert (each.residency, each.reason) == ("resident", "weights and maps fit on the chip together")
        assert each.cycles > 0
    assert json.dumps([dataclasses.asdict(each) for each in program.report])
    reasons = {each.residency: each.reason for each in compile(random_network(7), SHRUNKEN[2]).report}
    assert "weights and maps streamed" in reasons
    assert re.search(r"need \d+ .*, of which there are 64", reasons["weights and maps streamed"])


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE, LARGE_PAIRS], ids=lambda c: c.name)
def test_predicted_cycles_follow_the_events(configuration):
    """With measured densities the prediction is never far below what the busiest column has to add."""
    for seed in range(30, 50):
        net = (paired_network if configuration.pairs else random_network)(seed)
        inputs = quantize(net.input, random_images(net, seed, 1))
        machine = Machine(configuration)
        _, counts = execute(compile(net, configuration), inputs, machine)
        density = densities({**counts[0], "input": inputs})
        predicted = sum(each.cycles for each in compile(net, configuration, density=density).report)
        assert predicted > 0.7 * machine.cycles


def test_density_never_changes_results():
    net = random_network(8)
    inputs = quantize(net.input, random_images(net, 8, 1))
    sparse, dense = compile(net, LARGE, density=0.01), compile(net, LARGE, density={"input": 1.0})
    assert np.array_equal(execute(sparse, inputs)[0], execute(dense, inputs)[0])


# Refusals


def overflowing(scale):
    rng = np.random.default_rng(0)
    weight = np.zeros((10, 40, 5, 5), np.int8)
    weight[7] = scale
    layer = spiking(rng, "deep", (10, 1, 1), Synapse("input", weight, (5, 5)))
    return network(1, image_input(40, 5, 5, 8), layer, output(rng, "deep", (10, 1, 1)))


def test_a_membrane_that_could_overflow_is_refused():
    net = overflowing(127)
    bound = (
        127 * 255 * 1000
        + int(net["deep"].neuron.v0[7])
        + int(net["deep"].bias[7])
        + 3 * int(net["deep"].neuron.theta[7])
    )
    with pytest.raises(MembraneOverflowError) as caught:
        compile(net, TINY)
    message = str(caught.value)
    assert "layer 'deep', channel 7" in message
    assert str(bound) in message
    assert "needs 26 bits" in message
    assert "'tiny' has 24" in message
    assert "Membranes of 26 bits would fit" in message
    assert compile(net, TINY.replace(membrane_bits=26))
    with pytest.raises(MembraneOverflowError):
        compile(net, TINY.replace(membrane_bits=25))
    assert compile(overflowing(30), TINY)


def test_a_negative_threshold_needs_hardware_that_has_it():
    net = overflowing(1)
    index = [node.name for node in net].index("deep")
    layer = net.nodes[index]

    def with_theta_neg(value):
        theta_neg = np.zeros_like(layer.neuron.theta)
        theta_neg[3] = value
        changed = dataclasses.replace(layer, neuron=dataclasses.replace(layer.neuron, theta_neg=theta_neg))
        return net.replace(nodes=(*net.nodes[:index], changed, *net.nodes[index + 1 :]))

    assert compile(with_theta_neg(0), TINY)
    with pytest.raises(CompileError, match=r"layer 'deep': has a negative .*'tiny' does not.*negative_threshold = 1"):
        compile(with_theta_neg(5), TINY)
    dual = TINY.replace(negative_threshold=1)
    assert compile(with_theta_neg((1 << 19) - 1), dual)
    with pytest.raises(CompileError, match=r"channel 3: theta_neg is 524288.* at most 524287"):
        compile(with_theta_neg(1 << 19), dual)


def test_random_firing_needs_hardware_that_has_it():
    net = overflowing(1)
    index = [node.name for node in net].index("deep")
    layer = net.nodes[index]
    neuron = Neuron(CountRange(0, 1, 4), layer.neuron.theta, layer.neuron.v0, lfsr=Lfsr(TAPS, 1))
    changed = dataclasses.replace(layer, neuron=neuron)
    net = net.replace(nodes=(*net.nodes[:index], changed, *net.nodes[index + 1 :]))
    with pytest.raises(CompileError, match=r"layer 'deep': has probabilistic .*'tiny' does not.*probabilistic = 1$"):
        compile(net, TINY)
    program = compile(net, TINY.replace(probabilistic=1))
    values = [each for each in program.segments[0].instructions if each.format is RANDOM]
    assert [each.values["which"] for each in values] == list(RandomValue)
    assert values[RandomValue.FIRST].values["value"] == 1


def test_a_threshold_that_is_too_large_is_refused():
    net = overflowing(1)
    net["deep"].neuron.theta[3] = (1 << 18) + 1
    with pytest.raises(CompileError, match=r"layer 'deep', channel 3: theta is 262145.*at most 262144"):
        compile(net, TINY)


def test_counts_wider_than_the_hardware_are_refused():
    rng = np.random.default_rng(0)
    layer = spiking(
        rng, "wide", (10, 1, 1), Synapse("input", weights(rng, 10, 4, 1, 1), (1, 1)), counts=CountRange(0, 255, 8)
    )
    net = network(1, image_input(4, 1, 1, 8), layer, output(rng, "wide", (10, 1, 1)))
    with pytest.raises(CompileError, match=r"layer 'wide': emits counts of 8 bits.*at most 4"):
        compile(net, TINY.replace(count_bits=4))
    assert compile(net, TINY)


def test_what_no_streaming_can_fit_is_refused():
    rng = np.random.default_rng(0)
    layer = spiking(rng, "long", (16, 1, 1), Synapse("input", weights(rng, 16, 4, 1, 1), (1, 1)))
    net = network(70, image_input(4, 1, 1), layer, output(rng, "long", (16, 1, 1)))
    with pytest.raises(CompileError, match=r"layer 'long': 70 timesteps of one position do not fit.*64 words"):
        compile(net, TINY.replace(spike_depth=64))
    pool = MaxPool("row", (4, 1, 1), "input", (1, 80), (1, 1))
    net = network(1, image_input(4, 1, 80), pool, output(rng, "row", (4, 1, 1)))
    with pytest.raises(CompileError, match=r"layer 'row': one window of \(1, 80\) does not fit.*64 words"):
        compile(net, TINY.replace(spike_depth=64))


def test_every_write_is_inside_its_space():
    """The simulator refuses what does not exist, so executing proves it; here for the largest addresses."""
    for seed in range(10):
        for configuration in SHRUNKEN:
            machine = Machine(configuration)
            for segment in compile(random_network(seed), configuration).segments:
                for write in segment.writes:
                    machine.write(write.space, write.mask, write.address, write.words)
                    assert (write.mask == 0) == (write.space is Space.PROGRAM)
                    assert write.mask < 1 << configuration.columns
