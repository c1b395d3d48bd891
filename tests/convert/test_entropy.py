"""Entropies against their closed forms and against integrals, the criterion with few counts, the analysis of layers."""

import itertools

import numpy as np
import pytest
import torch

from convert.test_conversion import images_for
from convert.zoo import build
from polyspike.convert import Method, Options, trace
from polyspike.convert.analysis import analyze
from polyspike.convert.entropy import BINS, Histogram, entropy, information
from polyspike.convert.graph import Role
from polyspike.convert.ranges import choose_range
from polyspike.network import CountRange
from polyspike.spec import ConversionError


def integrated(shares, deviation):
    """What `information` computes, by integration over a grid."""
    y = np.linspace(-12 * deviation, len(shares) - 1 + 12 * deviation, 40001)
    bells = np.exp(-0.5 * ((y[:, None] - np.arange(len(shares))) / deviation) ** 2) / deviation / np.sqrt(2 * np.pi)
    density = bells @ shares
    logarithm = np.log2(np.where(density > 0, density, 1.0))
    return float(-(density * logarithm).sum() * (y[1] - y[0]) - 0.5 * np.log2(2 * np.pi * np.e * deviation**2))


def heavy_tailed(kind, number=20000):
    random = np.random.default_rng(0)
    draw = {"gamma": lambda: random.gamma(0.2, 1, number), "log-normal": lambda: random.lognormal(0, 1, number)}
    return draw[kind]().astype(np.float32)


@pytest.mark.parametrize("deviation", [0.06, 0.29, 1.0, 4.0])
def test_information_is_that_of_a_gaussian_channel(deviation):
    shares = np.random.default_rng(0).dirichlet(np.ones(9))
    shares[3] = 0
    shares /= shares.sum()
    assert information(shares, deviation) == pytest.approx(integrated(shares, deviation), abs=1e-4)


def test_no_more_passes_than_the_counts_hold():
    shares = np.array([0.9, 0.05, 0.03, 0.02])
    passed = [information(shares, deviation) for deviation in (0.001, 0.0499, 0.0501, 0.2, 1, 10, 300)]
    assert passed[0] == passed[1] == entropy(shares) == pytest.approx(-(shares * np.log2(shares)).sum())
    assert passed[1] == pytest.approx(passed[2], abs=1e-9)
    assert all(more > less for more, less in itertools.pairwise(passed[2:]))
    assert 0 < passed[-1] < 1e-4


def test_entropies_of_known_distributions():
    random = np.random.default_rng(1)
    uniform = Histogram.of(random.uniform(0, 4, 400_000))
    assert uniform.entropy == pytest.approx(np.log2(BINS), abs=0.01)
    assert uniform.entropy + np.log2(uniform.width) == pytest.approx(2, abs=0.01)
    normal = Histogram.of(random.normal(0, 3, 400_000))
    assert normal.entropy + np.log2(normal.width) == pytest.approx(0.5 * np.log2(2 * np.pi * np.e * 9), abs=0.01)
    # Half of it is zero behind a ReLU: one bit for the sign, and for the other half what it has.
    assert normal.rectified().entropy == pytest.approx(1 + (normal.entropy - 1) / 2, abs=0.02)


def test_uniform_values_and_counts():
    got = Histogram.of(np.linspace(-2, 2, 100_001)).quantized(0.5, -4, 4)
    wanted = np.full(9, 1 / 8)
    wanted[[0, 8]] /= 2
    assert got.shares == pytest.approx(wanted, abs=0.002)
    assert got.error == pytest.approx(0.5**2 / 12, rel=0.01)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["gamma", "log-normal"])
def test_the_criterion_holds_with_few_counts(kind, most):
    """Most activations are near zero, and a range too large would silence them: then the error is 1, or near it."""
    values, counts = heavy_tailed(kind), CountRange(0, most, 4)

    def error(span):
        step = span / most
        rest = values - step * np.clip(np.floor(values / step + 0.5), 0, most)
        return float((rest**2).mean() / values.var())

    best = error(choose_range(values, counts, rectified=True, method=Method.MSE))
    assert error(choose_range(values, counts, rectified=True)) < 1.25 * best
    assert error(float(values.max())) > 1.5 * best


@pytest.mark.parametrize(("name", "timesteps"), [("residual +", 1), ("no activation", 2)])
def test_analysis(name, timesteps):
    images, options = images_for(name), Options(timesteps=timesteps, method=Method.ENTROPY)
    network = trace(build(name), images.shape[1:])
    layers = {layer.name: layer for layer in analyze(network, images, options)}
    spiking = [node for node in network.layers if node.role in (Role.RELU, Role.SIGNED)]
    assert list(layers) == [node.name for node in spiking]
    values = {network.input.name: torch.from_numpy(images).float() / 255}
    for node in network.layers:
        sums = network.sums(node, values)
        values[node.name] = node.activate(sums)
        if node.name not in layers:
            continue
        layer, x = layers[node.name], sums.detach().double().numpy().ravel()
        assert layer.rectified == (node.role is Role.RELU)
        step = layer.chosen.range / (layer.chosen.counts.n_pos * timesteps)
        least = 0 if layer.rectified else -layer.chosen.counts.n_neg * timesteps
        codes = np.clip(np.floor(x / step + 0.5), least, layer.chosen.counts.n_pos * timesteps)
        shares = np.unique(codes, return_counts=True)[1] / len(codes)
        assert layer.chosen.after == pytest.approx(-(shares * np.log2(shares)).sum(), abs=0.02)
        assert layer.chosen.lost == pytest.approx(layer.before - layer.chosen.after)
        assert 0 < layer.chosen.passed <= layer.chosen.after < layer.before <= np.log2(BINS)
        assert 0 <= layer.polarity < layer.before
        # A count more is more information, and the range that was chosen is where most passes.
        assert all(a.after < b.after for a, b in itertools.pairwise(layer.widths[1:]))
        best = layer.sweep.shares[int(np.argmax(layer.sweep.passed))]
        assert layer.chosen.range == pytest.approx(best * layer.largest)
    largest = analyze(network, images, options.replace(method=Method.MAX))
    assert all(layer.chosen.range == pytest.approx(layer.largest) for layer in largest)


def test_analysis_of_events():
    """The float network sees bins one by one: as many images, each one a bin."""
    model = build("residual +")
    events = np.random.default_rng(0).integers(0, 4, (6, 3, 2, 6, 6), np.uint8)
    layers = analyze(model, events, Options(timesteps=3, method=Method.MAX))
    assert layers
    network = trace(model, (2, 6, 6))
    sums = {node.name: each for node, each in network.all_sums(torch.from_numpy(events).float().flatten(0, 1))}
    for layer in layers:
        values = sums[layer.name].relu() if layer.rectified else sums[layer.name]
        assert layer.largest == pytest.approx(float(values.max()))
    with pytest.raises(ConversionError, match="make it 3, or bin the events anew"):
        analyze(model, events, Options(timesteps=2))
