"""The verifier: each rule by breaking it alone, with its message."""

import dataclasses
import re

import numpy as np
import pytest

from network.networks import changed, full_network
from polyspike.network import CountRange, Network, verify
from polyspike.spec import NetworkError
from polyspike.spec.lfsr import TAPS, Lfsr

FULL = full_network()


def refused(network: Network, where: str, message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        verify(network)
    assert str(caught.value).startswith(f"network 'full', {where}: "), str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("timesteps", [1, 2, 255])
def test_a_sound_network_is_returned_unchanged(timesteps: int) -> None:
    network = full_network(timesteps)
    assert verify(network) is network


@pytest.mark.parametrize("timesteps", [0, 256, -1])
def test_timesteps(timesteps: int) -> None:
    refused(FULL.replace(timesteps=timesteps), "timesteps", f"{timesteps} is not from 1 to 255")


def test_max_pooling_at_more_than_one_timestep() -> None:
    refused(
        FULL.replace(timesteps=2),
        "layer 'pool'",
        r"max pooling of spike counts is exact at T = 1 only, and the network has T = 2; use T = 1, or average pooling",
    )


def nodes(*order: int) -> Network:
    return FULL.replace(nodes=tuple(FULL.nodes[index] for index in order))


@pytest.mark.parametrize(
    ("network", "where", "message"),
    [
        (nodes(), "nodes", "there must be an input and at least one layer"),
        (nodes(0), "nodes", "there must be an input and at least one layer"),
        (nodes(1, 2, 3, 4), "first node", "must be the input"),
        (nodes(0, 1), "last node", "must be a layer of output membranes"),
        (nodes(0, 1, 2), "last node", "must be a layer of output membranes"),
        (nodes(0, 2, 1, 3, 4), "layer 'pool'", "source 'conv' does not stand before it"),
        (nodes(0, 1, 3, 2, 4), "layer 'join'", "source 'pool' does not stand before it"),
        (nodes(0, 1, 1, 2, 3, 4), "layer 'conv'", "the name is used twice"),
        (nodes(0, 0, 1, 2, 3, 4), "layer 'image'", "the name is used twice"),
        (
            FULL.replace(nodes=(FULL.nodes[0], dataclasses.replace(FULL.input, name="second"), *FULL.nodes[1:])),
            "layer 'second'",
            "an input can only be the first node",
        ),
        (changed(FULL, "join", neuron=None), "layer 'join'", "only the last layer can have output membranes"),
        (changed(FULL, "join", synapse={"source": "join"}), "layer 'join'", "source 'join' does not stand before it"),
        (changed(FULL, "join", synapse={"source": "gone"}), "layer 'join'", "source 'gone' does not stand before it"),
        (changed(FULL, "conv", shape=(6, 0, 3)), "layer 'conv'", r"shape \(6, 0, 3\) has a size below 1"),
        (changed(FULL, "conv", synapses=()), "layer 'conv'", "has no synapses"),
    ],
)
def test_order_and_names(network: Network, where: str, message: str) -> None:
    refused(network, where, message)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (CountRange(0, 3, 2), "counts have 2 bits, but 4 or 8 are possible"),
        (CountRange(0, 3, 16), "counts have 16 bits, but 4 or 8 are possible"),
        (CountRange(0, 16, 4), r"counts from -0 to 16 do not fit 4 bits .*n_neg \+ n_pos <= 15\)"),
        (CountRange(8, 8, 4), "counts from -8 to 8 do not fit 4 bits"),
        (CountRange(1, 255, 8), r"do not fit 8 bits .*n_neg \+ n_pos <= 255\)"),
        (CountRange(3, 0, 4), r"n_pos >= 1"),
        (CountRange(-1, 3, 4), r"n_neg >= 0"),
        (CountRange(9, 1, 4), "n_neg = 9 is above 8"),
        (CountRange(129, 1, 8), "n_neg = 129 is above 128"),
    ],
)
def test_count_ranges(counts: CountRange, message: str) -> None:
    refused(changed(FULL, "image", counts=counts), "layer 'image'", message)
    refused(changed(FULL, "conv", neuron={"counts": counts}), "layer 'conv'", message)


@pytest.mark.parametrize(
    "counts",
    [CountRange(0, 1, 4), CountRange(0, 15, 4), CountRange(8, 7, 4), CountRange(0, 255, 8), CountRange(128, 127, 8)],
)
def test_extreme_count_ranges_are_legal(counts: CountRange) -> None:
    assert verify(changed(changed(FULL, "image", counts=counts), "conv", neuron={"counts": counts}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0, but must be positive"),
        ({"scale": float("nan")}, "scale is nan, but must be positive"),
        ({"image": (4, 6, 6)}, r"image \(4, 6, 6\) does not reshape to \(4, 6, 5\)"),
        ({"mean": (0.5,)}, "mean and std need one entry for each of 4 image channels"),
        ({"std": (0.5,) * 3}, "mean and std need one entry for each of 4 image channels"),
        ({"std": (0.5, 0.0, 1.0, 1.0)}, r"std is \(0.5, 0.0, 1.0, 1.0\), but every entry must be positive"),
    ],
)
def test_input(changes: dict[str, object], message: str) -> None:
    refused(changed(FULL, "image", **changes), "layer 'image'", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "image"}, r"shape \(6, 3, 2\) is not what pooling \(4, 6, 5\) gives"),
        ({"shape": (5, 3, 2)}, "has 5 channels, its source 6"),
        ({"shape": (6, 3, 3)}, r"shape \(6, 3, 3\) is not what pooling \(6, 6, 3\) gives"),
        ({"window": (0, 2)}, "window, stride and padding do not fit together"),
        ({"stride": (2, 0)}, "window, stride and padding do not fit together"),
        ({"padding": (0, 2)}, "window, stride and padding do not fit together"),
        ({"padding": (-1, 0)}, "window, stride and padding do not fit together"),
        ({"window": (9, 2)}, "is not what pooling"),
    ],
)
def test_max_pooling(changes: dict[str, object], message: str) -> None:
    refused(changed(FULL, "pool", **changes), "layer 'pool'", message)


def with_value(array: np.ndarray, value: int) -> np.ndarray:
    copy = array.copy()
    copy.flat[-1] = value
    return copy


WEIGHT = FULL["conv"].synapses[0].weight
BIAS = FULL["conv"].bias
THETA = FULL["conv"].neuron.theta
RANDOM = {"counts": CountRange(0, 1, 4), "lfsr": Lfsr(TAPS, 1)}
SCALE = FULL["conv"].scale


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": WEIGHT.astype(np.int32)}, "weight must be int8 with 4 axes"),
        ({"weight": WEIGHT[0]}, "weight must be int8 with 4 axes"),
        ({"weight": with_value(WEIGHT, -128)}, "weights are symmetric, -127 to 127; one is -128"),
        ({"weight": WEIGHT[:4]}, "weight has 4 output channels, the layer 6"),
        ({"groups": 0}, "0 groups do not divide the channels"),
        ({"groups": 3}, "3 groups do not divide the channels"),
        ({"groups": 4}, "4 groups do not divide the channels"),
        ({"groups": 1}, "weight has 2 input channels a group, the source 4"),
        ({"weight": WEIGHT[:, :1]}, "weight has 1 input channels a group, the source 2"),
        ({"weight": WEIGHT[:, :, :, :2]}, r"weight \(6, 2, 3, 2\) does not fit the window \(3, 3\)"),
        ({"window": (3, 2)}, r"weight \(6, 2, 3, 3\) does not fit the window \(3, 2\)"),
        ({"stride": (0, 1)}, "window and stride must be at least 1, padding 0"),
        ({"padding": (1, -1)}, "window and stride must be at least 1, padding 0"),
        ({"weight": WEIGHT[:, :, :1, :1], "window": (0, 3)}, "window and stride must be at least 1, padding 0"),
        ({"shift": 8}, "shift is 8, not from 0 to 7"),
        ({"shift": -1}, "shift is -1, not from 0 to 7"),
    ],
)
def test_synapses(changes: dict[str, object], message: str) -> None:
    refused(changed(FULL, "conv", synapse=changes), "layer 'conv', synapse from 'image'", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (6, 6, 5)}, r"synapse from 'image' gives \(6, 3\) positions, the layer has \(6, 5\)"),
        ({"synapse": {"padding": (1, 0)}}, r"synapse from 'image' gives \(6, 2\) positions, the layer has \(6, 3\)"),
        ({"synapse": {"stride": (9, 2)}}, r"gives \(1, 3\) positions"),
        ({"bias": BIAS[:5]}, r"bias must be int32 \[6\]"),
        ({"bias": BIAS.astype(np.int64)}, r"bias must be int32 \[6\]"),
        ({"scale": SCALE[:5]}, r"scale must be positive, \[6\]"),
        ({"scale": SCALE - 1}, r"scale must be positive, \[6\]"),
        ({"scale": SCALE * float("nan")}, r"scale must be positive, \[6\]"),
        ({"neuron": {"theta": THETA[:, None]}}, r"theta must be int32 \[6\]"),
        ({"neuron": {"theta": THETA.astype(np.uint32)}}, r"theta must be int32 \[6\]"),
        ({"neuron": {"v0": THETA[:1]}}, r"v0 must be int32 \[6\]"),
        ({"neuron": {"v0": THETA / 2}}, r"v0 must be int32 \[6\]"),
        ({"neuron": {"theta": with_value(THETA, 0)}}, "every theta must be at least 1"),
        ({"neuron": {"theta": -THETA}}, "every theta must be at least 1"),
        ({"neuron": {"theta_neg": -THETA}}, "every theta_neg must be at least 0"),
        ({"neuron": {"theta_neg": THETA[:3]}}, r"theta_neg must be int32 \[6\]"),
        ({"neuron": {"lfsr": Lfsr(TAPS, 1)}}, "probabilistic neurons emit 0 or 1 spike"),
        ({"neuron": RANDOM | {"rectified": True}}, "rectified is True"),
        ({"neuron": RANDOM | {"counts": CountRange(0, 1, 8)}}, "with 4 bits"),
        ({"neuron": RANDOM | {"theta_neg": THETA}}, "have no negative threshold"),
        ({"neuron": RANDOM | {"lfsr": Lfsr(0x7FFF, 1)}}, "has 15 bits, but must have 16 to 32"),
        ({"neuron": RANDOM | {"lfsr": Lfsr(1 << 32, 1)}}, "has 33 bits, but must have 16 to 32"),
        ({"neuron": RANDOM | {"lfsr": Lfsr(TAPS, 0)}}, "the seed of its random numbers is 0, not from 1 to 4294967295"),
        ({"neuron": RANDOM | {"lfsr": Lfsr(0xB400, 0x10000)}}, "is 65536, not from 1 to 65535"),
    ],
)
def test_layers(changes: dict[str, object], message: str) -> None:
    refused(changed(FULL, "conv", **changes), "layer 'conv'", message)


def test_later_synapses_and_the_output_are_checked_too() -> None:
    first, second = FULL["join"].synapses
    wrong = dataclasses.replace(second, shift=9)
    refused(changed(FULL, "join", synapses=(first, wrong)), "layer 'join', synapse from 'pool'", "shift is 9")
    refused(changed(FULL, "output", bias=BIAS), "layer 'output'", r"bias must be int32 \[3\]")


def test_counts_are_those_of_the_emitting_node() -> None:
    assert FULL.counts("image") == CountRange(128, 127, 8)
    assert FULL.counts("pool") == FULL.counts("conv") == CountRange(0, 15, 4)
    assert FULL.counts("image").largest == 128
    with pytest.raises(NetworkError, match="layer 'output' emits no spikes: it has output membranes"):
        FULL.counts("output")
    with pytest.raises(NetworkError, match="network 'full' has no layer 'x'; it has image, conv, pool, join, output"):
        FULL["x"]


def test_events() -> None:
    def of(**changes: object) -> Network:
        fields = {"bins": 2, "mean": (0.0,) * 4, "std": (1.0,) * 4, **changes}
        network = full_network(2)
        return network.replace(nodes=(dataclasses.replace(network.input, **fields), *network.nodes[1:]))  # type: ignore[arg-type]

    assert verify(of()).input.item == (2, 4, 6, 5)
    refused(
        of(bins=3), "layer 'image'", "takes 3 bins of events, but the network has 2 timesteps; each timestep needs one"
    )
    for wrong in ({"mean": (0.0, 0.0, 0.5, 0.0)}, {"std": (2.0,) * 4}):
        refused(of(**wrong), "layer 'image'", "events are counts as they are, with mean 0 and std 1")
