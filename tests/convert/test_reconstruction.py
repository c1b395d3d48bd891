"""Reconstruction of layers from quantized inputs: on images that it has not seen, and against plain formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from convert.test_conversion import images_for
from convert.zoo import build
from polyspike.convert import Options, calibrate, to_network, trace
from polyspike.convert.graph import Term
from polyspike.convert.reconstruction import _regress, _taps
from polyspike.network import CountRange, Layer

COARSE = Options(counts=CountRange(0, 3, 4))


def network_and_images(number=192):
    """A network whose channels depend on each other, and images like those of `images_for`."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(2, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(432, 4)]
    model = nn.Sequential(*layers).eval()
    images = images_for("plain", number)
    return model, images


def errors(model, quantized, images):
    """Return, by layer, the mean squared error of the activations, relative to the float network's mean square."""
    wanted, found = {}, {}
    x = quantized.prepare(images)
    quantized.network.run(x, lambda name, value: wanted.update({name: value}))
    with torch.no_grad():
        quantized(x, lambda name, values: found.update({name: torch.stack(values).mean(0)}))
    return {
        name: float((value - wanted[name]).square().mean() / wanted[name].square().mean())
        for name, value in found.items()
    }


@pytest.mark.parametrize("changes", [{}, {"timesteps": 2}, {"weight_bits": 4, "counts": None}])
def test_layers_are_nearer_to_the_float_network_on_other_images(changes):
    model, images = network_and_images()
    options = COARSE.replace(**changes)
    plain, better = (
        errors(model, calibrate(model, images[:128], options.replace(reconstruct=on)), images[128:])
        for on in (False, True)
    )
    assert plain.keys() == better.keys() == {"0", "2", "4"}
    assert better["4"] < 0.95 * plain["4"]


def test_calibration_is_deterministic():
    model, images = network_and_images(64)
    first, second = (calibrate(model, images, COARSE).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_strong_regression_is_least_squares():
    """With one lambda, all rows and no limits, it is what numpy solves."""
    random = np.random.default_rng(0)
    x = random.normal(1.0, 1.0, (400, 6)).astype(np.float32)
    true = random.normal(size=(3, 6)).astype(np.float32)
    y = x @ true.T + 0.5 + random.normal(0, 0.01, (400, 3)).astype(np.float32)
    start = torch.from_numpy(true + random.normal(0, 0.3, (3, 6)).astype(np.float32))
    held = torch.arange(400) >= 300
    rest = torch.zeros(400, 3)
    found = _regress(torch.from_numpy(x)[None], start.view(3, 6, 1, 1), torch.from_numpy(y), rest, None, held)
    best = np.linalg.lstsq(np.hstack([x, np.ones((400, 1))]), y, rcond=None)[0][:-1].T
    assert np.abs(found.view(3, 6).numpy() - best).max() < 0.01 < np.abs(start.numpy() - best).max()


@pytest.mark.parametrize("groups, window, stride, padding", [(1, 3, 1, 1), (2, 3, 2, 0), (4, 2, 1, 0)])
def test_taps_are_what_a_convolution_sees(groups, window, stride, padding):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 6, 5), torch.randn(4, 4 // groups, window, window)
    term = Term("x", weight, (window, window), (stride, stride), (padding, padding), groups)
    wanted = term.apply(x).permute(0, 2, 3, 1).flatten(0, 2)
    taps = _taps(term, x, torch.arange(len(wanted)))
    got = torch.stack([taps[c * groups // 4] @ weight[c].flatten() for c in range(4)], 1)
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "depthwise", "residual +", "option A residual", "global average"])
def test_weights_of_four_bits(name):
    images = images_for(name, 64)
    quantized = calibrate(build(name), images, Options(weight_bits=4))
    network = to_network(quantized, name)
    used = set()
    for node in network:
        if isinstance(node, Layer):
            for synapse, term in zip(node.synapses, quantized.layer(node.name).node.terms, strict=True):
                if not term.fixed:
                    assert np.abs(synapse.weight).max() <= 7
                    used |= set(np.abs(synapse.weight).ravel().tolist())
    assert used == set(range(8))


def test_rounded_weights_are_their_integers_again():
    """Reconstruction leaves weights that stand for integers, and the units found for them are those of the rounding."""
    images = images_for("plain", 64)
    quantized = calibrate(build("plain"), images, Options(weight_bits=4))
    network, steps = to_network(quantized, "rounded"), quantized.steps()
    for node in network.nodes[1:]:
        layer = quantized.layer(node.name)
        unit = node.scale / (node.neuron.theta if node.neuron is not None else 1)
        given = steps[layer.node.terms[0].source].double().numpy().reshape(1, -1, 1, 1)
        multiples = layer.weights[0].detach().double().numpy() * given / unit.reshape(-1, 1, 1, 1)
        assert np.abs(multiples - node.synapses[0].weight).max() < 1e-3


def test_equalization_is_what_ranges_of_channels_do_already():
    """Scaling channels against their readers changes neither the float network nor, with ranges a channel, integers."""
    images = images_for("plain", 64)
    networks, logits = [], []
    for scaled in (False, True):
        model = network_and_images(1)[0]
        if scaled:
            factors = 2.0 ** torch.arange(-6, 6)
            model[0].weight.data *= factors.view(-1, 1, 1, 1)
            model[0].bias.data *= factors
            model[2].weight.data /= factors.view(1, -1, 1, 1)
        with torch.no_grad():
            logits.append(model(torch.from_numpy(images) / 255))
        networks.append(to_network(calibrate(model, images, Options(reconstruct=False)), "equalized"))
    assert torch.allclose(*logits, atol=1e-5)
    for first, second in zip(networks[0].nodes[1:], networks[1].nodes[1:], strict=True):
        assert np.array_equal(first.synapses[0].weight, second.synapses[0].weight)
        assert np.array_equal(first.bias, second.bias)
        assert first.neuron is None or np.array_equal(first.neuron.theta, second.neuron.theta)


def test_trace_is_left_alone():
    model, images = network_and_images(32)
    network = trace(model, images.shape[1:])
    before = [term.weight.clone() for layer in network.layers for term in layer.terms]
    calibrate(network, images, COARSE)
    assert all(
        torch.equal(old, term.weight)
        for old, term in zip(before, (t for layer in network.layers for t in layer.terms), strict=True)
    )


def test_a_channel_that_hardly_fires_keeps_a_range():
    """Its own would be so small that no weights of the next layer, or of its own, could be expressed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    with torch.no_grad():
        model[0].weight[2] = -1.0
        # Only a nearly black window fires, and weakly.
        model[0].bias[2] = 1e-6
    images = np.random.default_rng(0).integers(100, 256, (32, 1, 8, 8), np.uint8)
    images[0, 0, :3, :3] = 0
    layer = calibrate(model, images, Options(per_channel=True)).layer("0")
    # An input spike is one of 255 levels of a pixel.
    gain = model[0].weight.detach().abs().amax((1, 2, 3)) / 255 / layer.step.detach()
    assert gain[2] == pytest.approx(256) and gain[[0, 1, 3]].max() < 20
    assert to_network(calibrate(model, images, Options(per_channel=True)), "quiet")
