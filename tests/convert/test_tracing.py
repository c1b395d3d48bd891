"""Tracing keeps the function of the network, and refuses by name what it cannot keep."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convert.zoo import ZOO, Wrap, build, conv
from polyspike.convert import trace
from polyspike.convert.graph import FloatLayer, FloatMaxPool, Role
from polyspike.spec import ConversionError


@pytest.mark.parametrize("name", ZOO)
def test_traced_network_computes_the_same(name):
    model = build(name)
    network = trace(model, ZOO[name][1])
    x = torch.rand(5, *ZOO[name][1]) * 2 - 0.7
    with torch.no_grad():
        wanted = model(x)
    got = network.run(x.view(5, *network.input.shape)).flatten(1)
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_alone():
    model = build("residual +").train()
    before = copy.deepcopy(model.state_dict())
    trace(model, (2, 6, 6))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_residual_join_is_one_layer_with_two_terms():
    network = trace(build("residual +"), (2, 6, 6))
    assert [node.name for node in network] == ["input", "conv0", "conv1", "conv2", "fc"]
    join = network.nodes[3]
    assert isinstance(join, FloatLayer)
    assert join.role is Role.RELU
    assert [term.source for term in join.terms] == ["conv1", "conv0"]
    assert join.terms[1].depthwise and join.terms[1].fixed


def test_option_a_shortcut_is_a_strided_pattern():
    network = trace(build("option A residual"), (2, 6, 6))
    shortcut = network.nodes[2].terms[1]
    assert (shortcut.source, shortcut.stride, shortcut.window) == ("conv0", (2, 2), (1, 1))
    wanted = torch.zeros(6, 4)
    for channel in range(4):
        wanted[channel + 1, channel] = 1
    assert torch.equal(shortcut.weight[:, :, 0, 0], wanted)


def test_flattened_input_becomes_a_vector():
    network = trace(build("flatten first"), (2, 6, 6))
    assert (network.input.shape, network.input.image) == ((72, 1, 1), (2, 6, 6))
    # Where something else reads the input as a map, it stays one.
    model = Wrap(
        lambda self, x: self.fc(x.flatten(1)) + self.fc2(F.relu(self.conv0(x)).flatten(1)),
        fc=nn.Linear(72, 4),
        conv0=conv(2, 4),
        fc2=nn.Linear(144, 4),
    )
    assert trace(model, (2, 6, 6)).input.shape == (2, 6, 6)


def test_linear_after_global_average_shares_its_weights():
    layer = trace(build("global average"), (2, 6, 6)).layers[-1]
    assert (layer.terms[0].window, tuple(layer.terms[0].weight.shape)) == ((6, 6), (4, 4, 1, 1))
    assert layer.terms[0].shared


def test_average_pooling_elsewhere_is_a_layer_of_ones():
    pool = trace(build("average pooling"), (2, 6, 6)).layers[1]
    assert (pool.role, pool.shape, pool.terms[0].window) == (Role.POOL, (4, 3, 3), (2, 2))


def test_linear_layer_without_relu_is_signed():
    assert trace(build("no activation"), (2, 6, 6)).layers[0].role is Role.SIGNED


def test_expression_with_two_readers_is_computed_once():
    network = trace(build("shared expression"), (2, 6, 6))
    assert [layer.role for layer in network.layers[:2]] == [Role.SIGNED, Role.RELU]
    assert sum(term.source == "input" for layer in network.layers for term in layer.terms) == 1


def test_relu_is_drawn_before_max_pooling():
    network = trace(build("max pooling"), (2, 6, 6))
    assert isinstance(network.nodes[2], FloatMaxPool)
    assert network.nodes[1].role is Role.RELU


def test_inplace_relu_changes_what_later_readers_see():
    def forward(self, x):
        y = self.conv0(x)
        self.relu(y)
        return self.fc(y.flatten(1))

    model = Wrap(forward, conv0=conv(2, 4), relu=nn.ReLU(inplace=True), fc=nn.Linear(144, 4)).eval()
    x = torch.rand(3, 2, 6, 6)
    torch.testing.assert_close(trace(model, (2, 6, 6)).run(x).flatten(1), model(x), rtol=1e-4, atol=1e-5)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.fc(y[:, -1])


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def _net(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules)


REFUSALS = {
    "LSTM": (Recurrent(), "module 'rnn' (LSTM)"),
    "dilation": (_net(conv(2, 4, padding=2, dilation=2), nn.ReLU()), "module '0' (Conv2d).*dilation is (2, 2)"),
    "sigmoid module": (_net(conv(2, 4), nn.Sigmoid()), "module '1' (Sigmoid).*no integer form"),
    "gelu": (_net(conv(2, 4), nn.GELU()), "module '1' (GELU)"),
    "layer norm": (_net(conv(2, 4), nn.LayerNorm(6)), "module '1' (LayerNorm)"),
    "nested": (_net(_net(conv(2, 4), nn.Tanh())), "module '0.1' (Tanh)"),
    "transposed": (_net(nn.ConvTranspose2d(2, 4, 3)), "module '0' (ConvTranspose2d)"),
    "function": (Wrap(lambda self, x: torch.sigmoid(self.c(x)), c=conv(2, 4)), "function 'sigmoid' (in Wrap)"),
    "method": (Wrap(lambda self, x: self.c(x).softmax(1), c=conv(2, 4)), "method 'softmax' (in Wrap)"),
    "product": (Wrap(lambda self, x: self.c(x) * 2, c=conv(2, 4)), "function 'mul'"),
    "constant": (Wrap(lambda self, x: self.c(x) + 1, c=conv(2, 4)), "adds a constant"),
    "alpha": (Wrap(lambda self, x: torch.add(self.c(x), x, alpha=2), c=conv(2, 2)), "alpha = 2"),
    "broadcast": (
        Wrap(lambda self, x: self.c(x) + x.mean((2, 3), keepdim=True), c=conv(2, 2)),
        r"adds [2, 6, 6] and [2, 1, 1]",
    ),
    "concatenation": (Wrap(lambda self, x: torch.cat([self.c(x), x], 1), c=conv(2, 4)), "function 'cat'"),
    "even same": (_net(nn.Conv2d(2, 4, 2, padding="same")), "even kernel (2, 2)"),
    "reflect": (_net(conv(2, 4, padding_mode="reflect")), "padding mode 'reflect'"),
    "hardtanh": (_net(conv(2, 4), nn.Hardtanh()), "clips to -1.0 .. 1.0"),
    "adaptive": (_net(conv(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4)), "do not divide"),
    "border divisor": (_net(conv(2, 4), nn.AvgPool2d(3, 1, 1, count_include_pad=False)), "count_include_pad"),
    "ceil mode": (_net(conv(2, 4), nn.MaxPool2d(4, 4, ceil_mode=True)), "ceil_mode"),
    "linear on a map": (_net(conv(2, 4), nn.Linear(6, 4)), "module '1' (Linear).*flatten the map"),
    "transpose by view": (Wrap(lambda self, x: self.c(x).view(-1, 6, 6, 4), c=conv(2, 4)), "method 'view'"),
    "slice": (Wrap(lambda self, x: self.c(x[:, :, 1:]), c=conv(2, 4)), r"x\[:, :, ::s, ::s\]"),
    "spatial padding": (Wrap(lambda self, x: self.c(F.pad(x, (1, 1, 1, 1))), c=conv(2, 4)), "zero channels"),
    "batch statistics": (_net(conv(2, 4), nn.BatchNorm2d(4, track_running_stats=False)), "track_running_stats"),
    "mean over channels": (Wrap(lambda self, x: self.c(x).mean(1), c=conv(2, 4)), "mean over axes 1"),
    "two results": (Wrap(lambda self, x: (self.c(x), x), c=conv(2, 4)), "not one tensor"),
    "nothing": (nn.Identity(), "no layer with weights"),
    "branch": (Branching(), "torch.fx cannot trace Branching"),
    "channels": (_net(conv(3, 4)), "takes 3 channels, but gets 2"),
    "features": (_net(nn.Flatten(), nn.Linear(70, 4)), "takes 70 features, but gets 72"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_part_and_the_reason(name):
    model, wanted = REFUSALS[name]
    pattern = wanted.replace("(", r"\(").replace(")", r"\)")
    if "\\[" not in pattern:
        pattern = pattern.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ConversionError, match=pattern):
        trace(model, (2, 6, 6))


def test_refusals_list_what_can_be_converted():
    with pytest.raises(ConversionError) as caught:
        trace(nn.Sequential(conv(2, 4), nn.Sigmoid()), (2, 6, 6))
    for word in ("Conv2d", "Linear", "BatchNorm2d", "AvgPool2d", "Dropout", "addition"):
        assert word in str(caught.value)
