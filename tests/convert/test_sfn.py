"""Scale-and-fire neurons: the equivalence they rest on, the search of their scale, and the way to the hardware."""

import math

import numpy as np
import pytest
import torch

from convert.test_conversion import images_for
from convert.test_finetuning import SCHEDULE
from convert.zoo import build
from polyspike.compiler import compile
from polyspike.convert import Method, Options, calibrate, finetune, to_network
from polyspike.convert.methods import METHODS
from polyspike.convert.scaling import search_scale
from polyspike.driver import compare, open_device
from polyspike.golden import run
from polyspike.network import CountRange, Input, Layer, Network, Neuron, Synapse
from polyspike.spec import TINY, ConversionError

NAME = "residual +"


@pytest.mark.parametrize("timesteps", [2, 5])
def test_one_firing_equals_integrate_and_fire_over_time(timesteps):
    """With a T-th of threshold and initial potential, and as many spikes at most as there were timesteps."""

    def emitted(number, largest, half_threshold):
        """Counts over all timesteps, for constant sums of -60 .. 195."""
        entry = Input("pixel", (1, 1, 256), CountRange(0, 255, 8), 1 / 255, (0.0,), (1.0,), (1, 1, 256))
        one = np.ones((1, 1, 1, 1), np.int8)
        neuron = Neuron(CountRange(0, largest, 4), np.int32([2 * half_threshold]), np.int32([half_threshold]))
        layer = Layer("neuron", (1, 1, 256), (Synapse("pixel", one, (1, 1)),), np.int32([-60]), neuron, np.ones(1))
        last = Layer("last", (1, 1, 256), (Synapse("neuron", one, (1, 1)),), np.int32([0]), None, np.ones(1))
        network = Network("neuron", number, (entry, layer, last))
        return run(network, np.arange(256).reshape(1, 1, 1, 256)).membranes.ravel()

    several = emitted(timesteps, 1, 10 * timesteps)
    assert np.unique(several).tolist() == list(range(timesteps + 1))
    assert (emitted(1, timesteps, 10) == several).all()


def test_the_best_scale_is_found_again_by_the_same_seed():
    def loss(scale):
        tried.append(scale)
        return (math.log(scale) - math.log(0.6)) ** 2

    tried: list[float] = []
    found = search_scale(loss, 1.0, 24, seed=3)
    assert tried[0] == 1.0 and len(tried) == 24
    assert found == min(tried, key=lambda scale: (math.log(scale) - math.log(0.6)) ** 2)
    assert found == pytest.approx(0.6, rel=0.05)
    before = list(tried)
    assert search_scale(loss, 1.0, 24, seed=3) == found and tried == before * 2
    assert search_scale(loss, 1.0, 24, seed=4) != found


def test_scales_that_cannot_be_had_are_passed_over():
    def loss(scale):
        if scale > 0.5:
            raise ConversionError("too large")
        return math.nan if scale < 0.2 else scale

    assert 0.2 <= search_scale(loss, 1.0, 24, seed=0) < 0.25
    with pytest.raises(ConversionError, match="too large"):
        search_scale(loss, 1.0, 1, seed=0)


def divergence(model, images):
    """The Kullback-Leibler divergence of the model's outputs from the float network's."""
    x = model.prepare(images)
    with torch.no_grad():
        wanted, got = model.network.run(x).flatten(1).double(), model(x).double()
    p = wanted.softmax(1)
    return float((p * (p.log() - got.log_softmax(1))).sum(1).mean())


def ranges(model):
    return {name: float(layer.range.detach()) for name, layer in model.layers.items() if layer.range is not None}


def test_all_ranges_have_one_scale_and_diverge_less():
    images = images_for(NAME, 8)
    coarse = {"counts": CountRange(0, 3, 4), "per_channel": False, "reconstruct": False}
    base = calibrate(build(NAME), images, Options(method=Method.PERCENTILE, **coarse))
    scaled = calibrate(build(NAME), images, METHODS["sfn"].options(trials=12, **coarse))
    scale = scaled.options.scale
    assert abs(scale - 1) > 0.01
    assert ranges(scaled) == pytest.approx({name: value * scale for name, value in ranges(base).items()}, rel=1e-6)
    assert divergence(scaled, images) < divergence(base, images)
    # No search, the same scale: the same model.
    again = calibrate(build(NAME), images, Options(method=Method.PERCENTILE, scale=scale, **coarse))
    for name, value in scaled.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(("method", "counts"), [("sfn", (0, 15)), ("sfn-dual", (7, 7))])
def test_finetuned_and_in_hardware(method, counts):
    images = images_for(NAME)
    calibrated = calibrate(build(NAME), images, METHODS[method].options(trials=3))
    labels = np.arange(len(images)) % 4
    tuned = finetune(calibrated, images.repeat(2, 0), labels.repeat(2), SCHEDULE, progress=False)
    assert ranges(tuned) != ranges(calibrated)
    network = to_network(tuned, "scale and fire")
    for layer in network.nodes[1:-1]:
        assert (layer.neuron.counts.n_neg, layer.neuron.counts.n_pos) == counts
        assert (layer.neuron.v0 == layer.neuron.theta // 2).all()
    program = compile(network, TINY)
    results = []
    for url in ("golden", "machine", "sim"):
        with open_device(url, TINY) as device:
            device.load(program)
            results.append(device.infer(images[:3], trace=True))
    for result in results[1:]:
        comparison = compare(results[0], result)
        assert comparison.compared > 1000 and str(comparison).startswith("0 of "), comparison
    assert results[0].counts[network.nodes[1].name].max() > 1


def test_bad_searches():
    for wrong, message in (({"scale": 0.1}, "scale is 0.1, but must be from 0.125 to 4.0"), ({"trials": -1}, "trials")):
        with pytest.raises(ConversionError, match=message):
            Options(**wrong)
