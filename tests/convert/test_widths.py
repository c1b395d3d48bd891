"""Widths of weights and counts by layer: chosen by hand, chosen by a search, and the same integers on other devices."""

import numpy as np
import pytest

from convert import oracle
from convert.test_conversion import images_for
from convert.zoo import build
from polyspike.compiler import compile
from polyspike.convert import LayerOptions, Options, QuantizedModel, choose_widths, convert, sensitivities, trace
from polyspike.driver import compare, open_device
from polyspike.network import CountRange, Layer, load, quantize, save
from polyspike.network.file import pack_weights, unpack_weights
from polyspike.spec import LARGE, TINY, ConversionError

NAME = "residual +"
MIXED = {"conv0": LayerOptions(weight_bits=4, bits=8), "conv1": LayerOptions(bits=4), "conv2": LayerOptions(4)}


def weight_bytes(network):
    """Count by the integers themselves: half a byte where every weight of a synapse is within -7..7."""
    total = 0
    for node in network:
        if isinstance(node, Layer):
            for synapse in node.synapses:
                if not (synapse.depthwise and synapse.window == (1, 1)):
                    few = np.abs(synapse.weight.astype(int)).max() <= 7
                    total += (synapse.weight.size + 1) // 2 if few else synapse.weight.size
    return total


def test_layers_have_the_widths_they_are_given():
    images = images_for(NAME)
    network = convert(build(NAME), images, Options(bits=8, layers=MIXED, reconstruct=False))
    assert [network.counts(name).bits for name in ("conv0", "conv1", "conv2")] == [8, 4, 8]
    largest = {node.name: int(np.abs(node.synapses[0].weight).max()) for node in network.nodes[1:]}
    assert largest["conv0"] <= 7 and largest["conv2"] <= 7
    assert largest["conv1"] > 100 and largest["fc"] > 100
    # An explicit range of counts is for layers without a width of their own.
    options = Options(counts=CountRange(0, 3, 4), layers={"conv1": LayerOptions(bits=8)}, reconstruct=False)
    other = convert(build(NAME), images, options)
    assert [other.counts(name).n_pos for name in ("conv0", "conv1", "conv2")] == [3, 255, 3]


@pytest.mark.parametrize("timesteps", [1, 2])
def test_mixed_widths_on_machine_and_golden_model(timesteps):
    images = images_for(NAME)
    network = convert(build(NAME), images, Options(timesteps=timesteps, layers=MIXED, reconstruct=False), name="mixed")
    for configuration in (TINY, LARGE):
        program = compile(network, configuration)
        results = []
        for device in ("machine", "golden"):
            with open_device(device) as opened:
                opened.load(program)
                results.append(opened.infer(images[:3], trace=True))
        assert compare(*results).differing == 0
    membranes, counts = oracle.run(network, quantize(network.input, images[:3]))
    assert (results[0].membranes.reshape(-1) == membranes.reshape(-1)).all()
    assert all((results[0].counts[name] == counts[name]).all() for name in ("conv0", "conv1", "conv2"))


def test_files_hold_two_small_weights_a_byte(tmp_path):
    images = images_for(NAME)
    sizes = {}
    for bits in (4, 8):
        network = convert(build(NAME), images, Options(weight_bits=bits, reconstruct=False))
        save(network, tmp_path / f"{bits}.psnn")
        again = load(tmp_path / f"{bits}.psnn")
        for first, second in zip(network.nodes[1:], again.nodes[1:], strict=True):
            for a, b in zip(first.synapses, second.synapses, strict=True):
                assert b.weight.dtype == np.int8 and np.array_equal(a.weight, b.weight)
        sizes[bits] = (tmp_path / f"{bits}.psnn").stat().st_size
    trained = sum(term.weight.numel() for layer in trace(build(NAME), (2, 6, 6)).layers for term in layer.terms[:1])
    assert sizes[8] - sizes[4] > 0.4 * trained


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 1, 1), (2, 2, 3, 3)])
def test_packed_weights(shape):
    weight = np.random.default_rng(0).integers(-7, 8, shape).astype(np.int8)
    packed = pack_weights(weight)
    assert packed.dtype == np.uint8 and packed.shape == ((weight.size + 1) // 2,)
    # By the definition: two's complement of 4 bits, the first in the low half.
    first = int(packed[0]) & 15
    assert (first - 16 if first > 7 else first) == weight.ravel()[0]
    assert np.array_equal(unpack_weights(packed, shape), weight)
    with pytest.raises(ValueError, match="two a byte"):
        unpack_weights(packed, (*shape[:3], 9))


def test_search_respects_a_budget_of_bytes():
    images, model = images_for(NAME), build(NAME)
    all_bytes = weight_bytes(convert(model, images, Options(reconstruct=False)))
    found = []
    for share in (0.55, 0.8):
        options = choose_widths(model, images, Options(reconstruct=False), weight_bytes=int(share * all_bytes))
        network = convert(model, images, options)
        assert weight_bytes(network) <= share * all_bytes
        found.append({name: own.weight_bits for name, own in options.layers.items()})
        assert all(own.bits is None for own in options.layers.values())
    few, more = ([name for name, bits in widths.items() if bits == 8] for widths in found)
    assert len(few) < len(more)
    with pytest.raises(ConversionError, match=r"needs \d+ bytes of weights, but only 100 are allowed"):
        choose_widths(model, images, weight_bytes=100)


def test_search_respects_a_budget_of_cycles():
    images, model = images_for(NAME), build(NAME)

    def cycles(network):
        return sum(layer.cycles for layer in compile(network, TINY).report)

    low, high = (cycles(convert(model, images, Options(bits=bits, reconstruct=False))) for bits in (4, 8))
    assert low < high
    budget = (low + high) // 2
    options = choose_widths(model, images, Options(reconstruct=False), cycles=budget, cost=cycles)
    assert cycles(convert(model, images, options)) <= budget
    assert {own.bits for name, own in options.layers.items()} <= {4, 8}
    with pytest.raises(ConversionError, match="cycles, but only 1 are allowed"):
        choose_widths(model, images, cycles=1, cost=cycles)
    with pytest.raises(ConversionError, match="a function that returns those"):
        choose_widths(model, images, cycles=1)


def test_search_keeps_widths_chosen_by_hand():
    images, model = images_for(NAME), build(NAME)
    options = Options(layers={"conv1": LayerOptions(weight_bits=4, bits=8)})
    found = choose_widths(model, images, options, weight_bytes=1 << 20)
    assert found.layers["conv1"] == LayerOptions(4, 8)
    assert found.layers["conv2"] == LayerOptions(8, None)


def test_sensitivity_finds_the_layer_that_suffers():
    """Weights of 4 bits cannot hold a channel whose few large weights dwarf all others."""
    images, model = images_for(NAME), build(NAME)
    losses = sensitivities(model, images)
    assert {field for _, field in losses} == {"weight_bits", "bits"}
    assert ("fc", "bits") not in losses and ("fc", "weight_bits") in losses
    with_outliers = build(NAME)
    weight = with_outliers.conv1.weight
    weight.data[:, 0, 1, 1] = weight.abs().max() * 12
    worse = sensitivities(with_outliers, images)
    assert worse["conv1", "weight_bits"] > 3 * losses["conv1", "weight_bits"]


@pytest.mark.parametrize(
    "layers, message",
    [
        ({"conv9": LayerOptions(4)}, r"no layer 'conv9' has weights; those that do: conv0, conv1"),
        ({"fc": LayerOptions(bits=4)}, "emits no spikes"),
    ],
)
def test_layers_that_there_are_not(layers, message):
    network = trace(build(NAME), (2, 6, 6))
    with pytest.raises(ConversionError, match=message):
        QuantizedModel(network, Options(layers=layers))


def test_widths_that_there_are_not():
    with pytest.raises(ConversionError, match="weight_bits of a layer is 3, but must be 4 or 8"):
        LayerOptions(weight_bits=3)
    with pytest.raises(ConversionError, match="weights have 4 or 8 bits"):
        Options(weight_bits=2)
