"""From float to integers: the formulas of the arithmetic, the agreement with the float network, the options."""

import numpy as np
import pytest
import torch
from torch import nn

from convert import oracle
from convert.zoo import POOLED_BY_MAXIMUM, ZOO, build, conv
from polyspike.convert import Method, Options, QuantizedModel, calibrate, convert, to_network, trace
from polyspike.convert.graph import Role
from polyspike.convert.methods import METHODS, ecl, method_named
from polyspike.convert.quantized import pooled_counts
from polyspike.network import CountRange, Layer, membrane_ranges, quantize
from polyspike.spec import ConversionError

EIGHT = Options(bits=8)


def images_for(name, number=24):
    random = np.random.default_rng(list(ZOO).index(name))
    channels, height, width = ZOO[name][1]
    smooth = random.integers(0, 256, (number, channels, height // 2, width // 2))
    noise = random.integers(-20, 21, (number, channels, height, width))
    return np.clip(smooth.repeat(2, 2).repeat(2, 3) + noise, 0, 255).astype(np.uint8)


def float_logits(model, images, mean=0.0, std=1.0):
    with torch.no_grad():
        return model((torch.from_numpy(images).float() / 255 - mean) / std).numpy()


def relative_error(got, wanted):
    return float(np.sqrt(((got - wanted) ** 2).mean() / wanted.var()))


@pytest.mark.parametrize("name", ZOO)
def test_integers_agree_with_the_float_network(name):
    model, images = build(name), images_for(name)
    network = convert(model, images, EIGHT)
    got = oracle.logits(network, quantize(network.input, images[:4]))
    assert relative_error(got, float_logits(model, images[:4])) < 0.05


@pytest.mark.parametrize("name", [name for name in ZOO if name not in POOLED_BY_MAXIMUM])
def test_four_bits_and_two_timesteps(name):
    model, images = build(name), images_for(name)
    network = convert(model, images, Options(timesteps=2))
    got = oracle.logits(network, quantize(network.input, images[:3]))
    assert relative_error(got, float_logits(model, images[:3])) < 0.3


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("name", ["residual +", "average pooling", "option A residual", "no activation"])
def test_quantized_model_computes_what_the_integers_do(name, timesteps):
    images = images_for(name)
    quantized = calibrate(build(name), images, Options(timesteps=timesteps))
    network = to_network(quantized, name)
    counts = quantize(network.input, images[:4])
    membranes, spikes = oracle.run(network, counts)
    seen = {}
    with torch.no_grad():
        logits = quantized(quantized.prepare(images[:4]), observe=lambda n, values: seen.update({n: values})).numpy()
    for layer in network.nodes[1:-1]:
        got = torch.stack(seen[layer.name], 1).numpy() / layer.scale.reshape(-1, 1, 1)
        # A float sum on the edge between two counts may fall to the other side.
        assert (np.rint(got) != spikes[layer.name]).mean() < 0.002, layer.name
    scale = network.output.scale.reshape(1, -1, 1, 1) / timesteps
    assert relative_error((membranes * scale).reshape(4, -1), logits) < 0.02


@pytest.mark.parametrize("timesteps", [1, 4])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "pmsm"])
def test_quantized_model_computes_what_the_integers_do_with_other_neurons(method, timesteps):
    name = "residual +"
    images = images_for(name)
    quantized = calibrate(build(name), images, METHODS[method].options(timesteps=timesteps, trials=0))
    network = to_network(quantized, name)
    spikes = oracle.run(network, quantize(network.input, images[:4]))[1]
    seen = {}
    with torch.no_grad():
        quantized(quantized.prepare(images[:4]), observe=lambda n, values: seen.update({n: values}))
    for layer in network.nodes[1:-1]:
        got = torch.stack(seen[layer.name], 1).numpy() / layer.scale.reshape(-1, 1, 1)
        # A float sum on an edge may fall to the other side, and then does so in what follows.
        assert (np.rint(got) != spikes[layer.name]).mean() < 0.01, layer.name


def test_neurons_of_each_method():
    images = images_for("residual +")
    networks = {
        name: convert(build("residual +"), images, method.options(timesteps=4, trials=0))
        for name, method in METHODS.items()
    }
    neurons = {name: [n.neuron for n in network.nodes[1:-1]] for name, network in networks.items()}
    assert all(n.counts.n_pos > 1 and n.theta_neg is None for n in neurons["pmsm"] + neurons["sfn"])
    assert all((n.counts.n_neg, n.counts.n_pos) == (7, 7) for n in neurons["sfn-dual"])
    for name in ("qcfs", "if"):
        assert all(n.counts.n_pos == 1 and n.theta_neg is None for n in neurons[name])
    assert all((n.v0 == n.theta // 2).all() for n in neurons["qcfs"])
    assert all((n.v0 == 0).all() for n in neurons["if"])
    assert all((n.counts.n_neg, n.counts.n_pos) == (1, 1) for n in neurons["ecl"])
    assert all((n.theta_neg == np.floor(n.theta * ecl.NEGATIVE_THRESHOLD)).all() for n in neurons["ecl"])
    assert all(n.counts == CountRange(0, 1, 4) and (n.v0 == 0).all() for n in neurons["tpp"])
    seeds = [n.lfsr.seed for n in neurons["tpp"]]
    assert len(set(seeds)) == len(seeds) > 1
    assert all(n.lfsr is None for name in METHODS if name != "tpp" for n in neurons[name])
    with pytest.raises(
        ConversionError, match="unknown conversion method 'snn'; there are pmsm, ecl, sfn, sfn-dual, qcfs, if, tpp"
    ):
        method_named("snn")


def test_integers_follow_the_formulas():
    images = images_for("residual +")
    quantized = calibrate(build("residual +"), images)
    network, steps = to_network(quantized, "formulas"), quantized.steps()
    for node in network.nodes[1:]:
        layer = quantized.layer(node.name)
        term = layer.node.terms[0]
        given = steps[term.source].double().numpy()
        scaled = layer.weights[0].detach().double().numpy() * given.reshape(1, -1, 1, 1)
        integers = node.synapses[0].weight.astype(np.float64)
        # The unit follows from the largest weight; every weight is the nearest integer of it.
        if node.neuron is None:
            unit = node.scale
        else:
            unit = node.scale / node.neuron.theta
            assert (node.neuron.v0 == node.neuron.theta // 2).all()
            assert np.allclose(node.scale, layer.range.detach().numpy() / 15, rtol=1e-6)
        unit = unit.reshape(-1, 1, 1, 1)
        assert np.abs(integers - scaled / unit).max() <= 0.5 + 1e-4
        assert np.abs(integers).max() <= 127
        if len(node.synapses) == 1:
            assert np.abs(integers).reshape(len(integers), -1).max(1).min() >= 100
        bias = layer.bias.detach().double().numpy() / unit.ravel()
        assert np.abs(node.bias - bias).max() <= 0.5 + 1e-3


def test_crafted_integers_come_out_as_they_are():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    first = torch.tensor([[127.0], [-64.0]])
    second = torch.tensor([[127.0, -3, 5, 9, -127, 1, 0, 2], [1, 2, 3, 4, 5, 6, 7, 127]])
    with torch.no_grad():
        # A membrane unit of 2^-8 and steps of 1 / 255 and 1/4: theta = 64 * 255 in units of 2^-8 / 255.
        model[0].weight.copy_(first.view(2, 1, 1, 1) / 256)
        model[0].bias.copy_(torch.tensor([3.0, 7.0]) / 256 / 255)
        model[3].weight.copy_(second / 128)
        model[3].bias.copy_(torch.tensor([-5.0, 11.0]) / 128 / 4)
    quantized = QuantizedModel(trace(model, (1, 2, 2)), Options())
    with torch.no_grad():
        quantized.layer("0").range.fill_(15 / 4)
    network = to_network(quantized, "crafted")
    hidden, output = network.nodes[1], network.nodes[2]
    assert hidden.synapses[0].weight[:, 0, 0, 0].tolist()[0] == 127
    assert hidden.neuron.theta[0] == 64 * 255 and hidden.neuron.v0[0] == 32 * 255
    assert hidden.bias[0] == 3
    assert output.synapses[0].window == (2, 2)
    assert output.synapses[0].weight.reshape(2, 8).tolist() == second.tolist()
    assert output.bias.tolist() == [-5, 11]
    assert np.allclose(output.scale, 1 / 512)
    # By hand: pixel 255 gives 127 * 255 + 3 = 32388 and 32388 + 8160 = 2 * 16320 + 7908, so two spikes.
    counts = np.full((1, 1, 2, 2), 255, np.int16)
    assert oracle.run(network, counts)[1]["0"][0, 0, 0].tolist() == [[2, 2], [2, 2]]


def test_shortcut_weights_use_the_shift():
    quantized = calibrate(build("residual +"), images_for("residual +"))
    network, steps = to_network(quantized, "shift"), quantized.steps()
    join = network["conv2"]
    assert isinstance(join, Layer)
    shortcut = join.synapses[1]
    unit = join.scale / join.neuron.theta
    worth = shortcut.weight[:, 0, 0, 0] * unit * (1 << shortcut.shift)
    assert np.allclose(worth, steps["conv0"].numpy(), rtol=0.03)
    main = quantized.layer("conv2").weights[0].detach().numpy() * steps["conv1"].numpy()[:, None, None]
    got = join.synapses[0].weight * unit[:, None, None, None] * (1 << join.synapses[0].shift)
    assert relative_error(got, main) < 0.02


def test_per_channel_steps_are_exact_in_the_next_layer():
    model, images = build("residual +"), images_for("residual +")
    with torch.no_grad():
        model.conv0.weight *= torch.tensor([0.02, 1, 5, 0.2, 1]).view(-1, 1, 1, 1)
    errors = {}
    for per_channel in (False, True):
        network = convert(model, images, Options(bits=8, method=Method.MAX, per_channel=per_channel))
        scale = network["conv0"].scale
        assert (len(set(scale.tolist())) > 1) == per_channel
        got = oracle.logits(network, quantize(network.input, images[:4]))
        errors[per_channel] = relative_error(got, float_logits(model, images[:4]))
    assert errors[True] < 0.05


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("correct_bias", [False, True])
def test_methods(method, correct_bias):
    model, images = build("residual +"), images_for("residual +")
    network = convert(model, images, Options(method=method, correct_bias=correct_bias))
    got = oracle.logits(network, quantize(network.input, images[:4]))
    assert relative_error(got, float_logits(model, images[:4])) < 0.3


def test_more_timesteps_refine():
    model, images = build("residual +"), images_for("residual +")
    errors = []
    for timesteps in (1, 2, 8):
        network = convert(model, images, Options(timesteps=timesteps, method=Method.MAX, correct_bias=False))
        got = oracle.logits(network, quantize(network.input, images[:4]))
        errors.append(relative_error(got, float_logits(model, images[:4])))
    assert errors[2] < 0.5 * errors[0]


def test_bias_correction_matches_the_mean():
    model, images = build("residual +"), images_for("residual +", 64)
    wanted = float_logits(model, images).mean(0)
    shifts = []
    for correct in (False, True):
        quantized = calibrate(model, images, Options(counts=CountRange(0, 3, 4), correct_bias=correct))
        with torch.no_grad():
            shifts.append(np.abs(quantized(quantized.prepare(images)).mean(0).numpy() - wanted).max())
    assert shifts[1] < 1e-3 < shifts[0]


def test_default_counts():
    assert Options().relu_counts == CountRange(0, 15, 4)
    assert Options().linear_counts == CountRange(8, 7, 4)
    assert Options(bits=8).relu_counts == CountRange(0, 255, 8)
    later = Options(timesteps=2).relu_counts
    assert later.n_neg > 0 and later.n_neg + later.n_pos == 15
    network = convert(build("plain"), images_for("plain"), Options(timesteps=2))
    assert network["0"].neuron.rectified
    assert not convert(build("plain"), images_for("plain"))["0"].neuron.rectified


def test_input_counts():
    images = images_for("plain")
    plain = convert(build("plain"), images).input
    assert (plain.counts, plain.scale) == (CountRange(0, 255, 8), 1 / 255)
    assert (quantize(plain, images) == images).all()
    mean, std = (0.5, 0.4), (0.25, 0.2)
    normalized = convert(build("plain"), images, Options(bits=8, mean=mean, std=std))
    assert normalized.input.counts.n_neg > 100 and normalized.input.counts.n_pos > 100
    counts = quantize(normalized.input, images)
    wanted = (images / 255 - np.reshape(mean, (2, 1, 1))) / np.reshape(std, (2, 1, 1))
    assert np.abs(counts * normalized.input.scale - wanted).max() <= 0.5 * normalized.input.scale + 1e-9
    shape = (1, 2, 1, 1)
    got = oracle.logits(normalized, counts[:4])
    expected = float_logits(build("plain"), images[:4], torch.tensor(mean).view(shape), torch.tensor(std).view(shape))
    assert relative_error(got, expected) < 0.05


def test_method_by_name():
    assert Options(method="mse").method is Method.MSE


def test_pooling_counts():
    assert pooled_counts(CountRange(0, 15, 4), 4) == (CountRange(0, 60, 8), 1)
    assert pooled_counts(CountRange(8, 7, 4), 16) == (CountRange(128, 112, 8), 1)
    assert pooled_counts(CountRange(1, 14, 4), 1) == (CountRange(1, 14, 4), 1)
    counts, theta = pooled_counts(CountRange(0, 15, 4), 64)
    assert theta == 4 and counts == CountRange(0, 240, 8)


def test_average_pooling_is_exact_where_it_fits():
    network = convert(build("average pooling"), images_for("average pooling"))
    pool = next(node for node in network if isinstance(node, Layer) and node.name == "2")
    assert pool.neuron.theta.tolist() == [1] * 4 and pool.neuron.v0.tolist() == [0] * 4
    assert pool.bias.tolist() == [0] * 4 and (pool.synapses[0].weight == 1).all() and pool.synapses[0].shared
    assert np.allclose(pool.scale, network["0"].scale / 4)
    spikes = oracle.run(network, quantize(network.input, images_for("average pooling")[:2]))[1]
    source = spikes["0"].reshape(2, 1, 4, 3, 2, 3, 2)
    assert (spikes["2"] == source.sum((4, 6))).all()


def test_wide_pooling_is_requantized():
    model = nn.Sequential(
        conv(2, 4), nn.ReLU(), nn.AvgPool2d(6), conv(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 4)
    )
    images = images_for("plain", 64)
    network = convert(model, images, EIGHT)
    assert network["2"].neuron.theta[0] > 1
    got = oracle.logits(network, quantize(network.input, images[:8]))
    assert np.abs(got - float_logits(model, images[:8])).max() < 0.02


def test_membranes_fit_the_accumulator():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 4))
    images = images_for("plain")
    options = Options(bits=8, accumulator_bits=17)
    network = convert(model, images, options)
    assert max(int(ranges.bits().max()) for ranges in membrane_ranges(network).values()) <= 17
    wide = convert(model, images, EIGHT)
    assert max(int(ranges.bits().max()) for ranges in membrane_ranges(wide).values()) > 17


def test_channel_without_weights():
    model, images = build("residual +"), images_for("residual +")
    with torch.no_grad():
        model.conv1.weight[2] = 0
        model.conv0.weight[1] = 0
    network = convert(model, images, EIGHT)
    got = oracle.logits(network, quantize(network.input, images[:4]))
    assert relative_error(got, float_logits(model, images[:4])) < 0.05


def test_max_pooling_needs_one_timestep():
    with pytest.raises(ConversionError, match=r"max pooling '1'.*T = 1 only, and T = 2"):
        convert(build("max pooling"), images_for("max pooling"), Options(timesteps=2))


def test_roles():
    roles = {layer.name: layer.role for layer in trace(build("average of a linear layer"), (2, 6, 6)).layers}
    assert roles["2"] is Role.SIGNED and list(roles.values())[-1] is Role.OUTPUT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": 0}, "timesteps is 0"),
        ({"bits": 5}, "bits is 5"),
        ({"method": "best"}, "there are entropy, mse, percentile, max"),
        ({"counts": CountRange(8, 8, 4)}, "-8 .. 8 in 4 bits"),
        ({"signed_counts": CountRange(9, 3, 4)}, "n_neg at most half"),
        ({"percentile": 0.0}, "percentile is 0"),
        ({"std": (0.0,)}, "every entry must be positive"),
        ({"accumulator_bits": 8}, "accumulator_bits is 8"),
        ({"initial_potential": 1.5}, "initial_potential is 1.5"),
        ({"negative_threshold": -1.0}, "negative_threshold is -1.0"),
        ({"probabilistic": True}, "counts is None, but probabilistic neurons emit 0 or 1 spike"),
        (
            {"probabilistic": True, "counts": CountRange(0, 2, 4)},
            "probabilistic neurons emit 0 or 1 spike, in 4 bits",
        ),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(ConversionError, match=message):
        Options(**changes)


def test_layers_without_a_relu_do_not_fire_at_random():
    name = "average of a linear layer"
    network = convert(build(name), images_for(name), METHODS["tpp"].options(timesteps=4))
    linear = network["2"].neuron
    assert linear.lfsr is None
    assert linear.counts == Options(timesteps=4).linear_counts
    assert (linear.v0 == linear.theta // 2).all()


def expected_spikes(v, timesteps):
    """How many a probabilistic neuron emits on average, for what is in its membrane, in thresholds."""
    if timesteps == 0:
        return 0.0
    p = min(max(v / timesteps, 0.0), 1.0)
    return p * (1 + expected_spikes(v - 1, timesteps - 1)) + (1 - p) * expected_spikes(v, timesteps - 1)


def test_random_spikes_are_as_many_as_their_probabilities_say():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 32, 1))
    model[0].weight.data[:] = 1.0
    images = np.arange(256, dtype=np.uint8).repeat(4).reshape(1, 1, 32, 32)
    options = METHODS["tpp"].options(timesteps=4, method="max", correct_bias=False)
    network = convert(model, images, options)
    for pixel in (0, 20, 100, 128, 200, 255):
        counts = quantize(network.input, np.full((1, 1, 32, 32), pixel, np.uint8))
        mean = float(oracle.run(network, counts)[1]["0"].sum(1).mean())
        # Of 1024 neurons, whose numbers of spikes deviate by less than one, four standard errors.
        assert abs(mean - expected_spikes(4 * pixel / 255, 4)) < 4 / 32


def test_bad_calls():
    model = build("plain")
    with pytest.raises(ConversionError, match="needs calibration images"):
        convert(model)
    with pytest.raises(ConversionError, match="float64"):
        convert(model, np.zeros((3, 2, 6, 6)))
    with pytest.raises(ConversionError, match="mean has 3 entries, but the images have 2"):
        convert(model, images_for("plain"), Options(mean=(0.1, 0.2, 0.3), std=(1, 1, 1)))
