import numpy as np
import pytest
import torch

from golden import naive
from golden.networks import a_layer, an_input, dense, random_images, random_network
from polyspike.cosim.random_networks import with_events
from polyspike.golden import run
from polyspike.golden.model import FLOAT32_EXACT, _Model
from polyspike.network import CountRange, Layer, MaxPool, Network, Synapse, membrane_ranges
from polyspike.spec import InputError, NetworkError


@pytest.mark.parametrize("timesteps", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(15))
def test_random_networks_equal_plain_loops(seed: int, timesteps: int) -> None:
    network = random_network(seed * 10 + timesteps, timesteps)
    counts = random_images(network, seed, 3)
    result = run(network, counts, observe=True, chunk=2)
    assert list(result.counts) == [node.name for node in network.nodes[:-1]]
    for index, image in enumerate(counts):
        maps, membranes = naive.execute(network, image, timesteps)
        np.testing.assert_array_equal(result.membranes[index], membranes)
        for name, expected in maps.items():
            np.testing.assert_array_equal(result.counts[name][index], expected, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_on_events_equal_plain_loops(seed: int) -> None:
    timesteps = 1 + seed % 4
    network = with_events(random_network(seed, timesteps))
    limits = network.input.counts
    shape = (3, timesteps, *network.input.shape)
    counts = np.random.default_rng(seed).integers(-limits.n_neg, limits.n_pos + 1, shape)
    result = run(network, counts, observe=True, chunk=2)
    for index, events in enumerate(counts):
        maps, membranes = naive.execute(network, events, timesteps)
        np.testing.assert_array_equal(result.membranes[index], membranes)
        for name, expected in maps.items():
            np.testing.assert_array_equal(result.counts[name][index], expected, err_msg=name)


def test_events_are_not_repeated() -> None:
    """A membrane keeps what a bin leaves: the order of bins matters, and equal bins are an image."""
    image = one_neuron(CountRange(0, 15, 4), 3, theta=10, v0=0, bias=0)
    network = with_events(image)
    bins = np.array([[19, -5, 7], [7, -5, 19], [9, 9, 9]]).reshape(3, 3, 1, 1, 1)
    result = run(network, bins, observe=True)
    # 19 -> 1, rest 9; 4 -> 0; 11 -> 1. 7 -> 0; 2 -> 0; 21 -> 2.
    assert result.counts["neuron"].reshape(3, 3).tolist() == [[1, 0, 1], [0, 0, 2], [0, 1, 1]]
    np.testing.assert_array_equal(run(image, bins[2, :1], observe=True).counts["neuron"], result.counts["neuron"][2:])
    for wrong in (bins[:, 0], bins[:, :2], bins[0]):
        with pytest.raises(InputError, match=r"the network takes \[batch, 3, 1, 1, 1\]"):
            run(network, wrong)
    with pytest.raises(NetworkError, match="takes 3 bins of events, but the network has 2 timesteps"):
        run(network, bins, timesteps=2)


def test_random_networks_reach_every_feature() -> None:
    """The comparison above is worth something only if its networks use everything there is."""
    networks = [random_network(seed * 10 + t, t) for seed in range(15) for t in (1, 2, 3, 4)]
    layers = [node for network in networks for node in network if isinstance(node, Layer)]
    synapses = [synapse for layer in layers for synapse in layer.synapses]
    neurons = [layer.neuron for layer in layers if layer.neuron is not None]
    assert any(isinstance(node, MaxPool) and node.padding != (0, 0) for network in networks for node in network)
    assert any(synapse.shared and not synapse.depthwise for synapse in synapses)
    assert any(synapse.shared and synapse.depthwise for synapse in synapses)
    assert any(1 < synapse.groups < synapse.weight.shape[0] for synapse in synapses)
    assert any(synapse.shift for synapse in synapses)
    assert any(len(layer.synapses) == 2 for layer in layers)
    assert any(neuron.rectified and neuron.counts.n_neg for neuron in neurons)
    assert any(neuron.counts.n_neg and neuron.counts.n_neg != neuron.counts.n_pos + 1 for neuron in neurons)
    assert any(neuron.theta_neg is not None and neuron.counts.n_neg for neuron in neurons)
    assert {neuron.counts.bits for neuron in neurons} == {4, 8}
    assert len({neuron.lfsr.width for neuron in neurons if neuron.lfsr is not None}) == 3


def one_neuron(
    counts: CountRange, timesteps: int, *, theta: int, v0: int, bias: int, rectified: bool = False
) -> Network:
    """A neuron that sees input * 1, and an output that adds up what it emits."""
    return Network(
        "one neuron",
        timesteps,
        (
            an_input((1, 1, 1), CountRange(100, 100, 8)),
            a_layer(
                "neuron",
                (1, 1, 1),
                (dense("input", [[1]]),),
                counts,
                theta=theta,
                v0=v0,
                bias=bias,
                rectified=rectified,
            ),
            a_layer("output", (1, 1, 1), (dense("neuron", [[1]]),), bias=3),
        ),
    )


@pytest.mark.parametrize(
    ("counts", "rectified", "inputs", "expected"),
    [
        # theta 10, v0 5. 27 + 5 = 32 -> 3, rest 2; 29 -> 2, rest 9; 36 -> 3
        (CountRange(8, 7, 4), False, 27, [3, 2, 3]),
        # the floor of a negative quotient: -27 + 5 = -22 -> -3, rest 8; -19 -> -2, rest 1; -26 -> -3
        (CountRange(8, 7, 4), False, -27, [-3, -2, -3]),
        # clipped: 95 -> 7, rest 25; 115 -> 7, rest 45; 135 -> 7
        (CountRange(8, 7, 4), False, 90, [7, 7, 7]),
        # an unsigned range stays silent: -22, -49, -76
        (CountRange(0, 15, 4), False, -27, [0, 0, 0]),
        # so does a rectified one that has emitted nothing
        (CountRange(8, 7, 4), True, -27, [0, 0, 0]),
        # exactly theta fires, one less does not
        (CountRange(0, 1, 4), False, 5, [1, 0, 1]),
        (CountRange(0, 1, 4), False, 4, [0, 1, 0]),
    ],
)
def test_firing_by_hand(counts: CountRange, rectified: bool, inputs: int, expected: list[int]) -> None:
    network = one_neuron(counts, 3, theta=10, v0=5, bias=0, rectified=rectified)
    result = run(network, np.full((1, 1, 1, 1), inputs), observe=True)
    assert result.counts["neuron"].ravel().tolist() == expected
    assert result.membranes.ravel().tolist() == [sum(expected) + 3 * 3]


def test_rectified_takes_back_what_was_emitted() -> None:
    """v0 = 35 emits 3 at once; -20 a step then takes back until nothing is left."""
    network = one_neuron(CountRange(8, 7, 4), 4, theta=10, v0=55, bias=0, rectified=True)
    result = run(network, np.full((1, 1, 1, 1), -20), observe=True)
    # 35 -> 3, rest 5; -15 -> -2, rest 5; -15 -> -2 but 1 is left: -1, rest -5; -25 -> 0
    assert result.counts["neuron"].ravel().tolist() == [3, -2, -1, 0]


def test_timesteps_override_and_empty_batch() -> None:
    network = one_neuron(CountRange(8, 7, 4), 1, theta=10, v0=5, bias=1)
    inputs = np.array([7, -3, 50]).reshape(3, 1, 1, 1)
    three = run(network, inputs, timesteps=3, observe=True)
    same = run(network.replace(timesteps=3), inputs)
    np.testing.assert_array_equal(three.membranes, same.membranes)
    assert three.counts["neuron"].shape == (3, 3, 1, 1, 1)
    assert same.counts == {}
    assert run(network, inputs[:0], observe=True).counts["input"].shape == (0, 1, 1, 1, 1)


def wide(channels: int, taps: int, theta: int, counts: CountRange) -> Network:
    """One 3 x 3 convolution whose sums come close to a limit, and an output that reads it."""
    weight = np.full((4, channels, taps, taps), 127, np.int8)
    weight[1] = -127
    weight[2, ::2] = -127
    weight[3] = np.random.default_rng(0).integers(-127, 128, weight.shape[1:])
    size = taps + 3
    return Network(
        "wide",
        1,
        (
            an_input((channels, size, size)),
            a_layer("layer", (4, 4, 4), (Synapse("input", weight, (taps, taps)),), counts, theta=theta, v0=theta // 2),
            a_layer("output", (2, 1, 1), (Synapse("layer", np.full((2, 4, 4, 4), 127, np.int8), (4, 4)),), bias=1),
        ),
    )


@pytest.mark.parametrize(
    ("channels", "dtype"), [(16, torch.float32), (57, torch.float32), (58, torch.float64), (300, torch.float64)]
)
@pytest.mark.parametrize("theta", [1, 4097, 65521])
def test_exact_at_extreme_values(channels: int, dtype: torch.dtype, theta: int) -> None:
    """Batches and shapes for which libraries like to choose fast, rounding convolutions; sums on both sides of 2^24."""
    network = wide(channels, 3, theta, CountRange(128, 127, 8))
    assert _Model(network).layers["layer"].dtype == dtype
    rng = np.random.default_rng(channels)
    counts = rng.integers(0, 256, (32, *network.input.shape))
    counts[0] = 255
    counts[1, ::2] = 255
    counts[2] = 254
    layer = network["layer"]
    assert isinstance(layer, Layer)
    weight = layer.synapses[0].weight.astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(counts.astype(np.int64), (3, 3), axis=(2, 3))
    # Integer arithmetic, one multiply-add at a time.
    sums = np.zeros((32, 4, 4, 4), np.int64)
    for channel in range(channels):
        for ky in range(3):
            for kx in range(3):
                sums += weight[None, :, channel, ky, kx, None, None] * windows[:, None, channel, :, :, ky, kx]
    assert np.abs(sums).max() > 0.9 * 127 * 255 * 9 * channels
    expected = np.clip((sums + theta // 2) // theta, -128, 127)
    result = run(network, counts, observe=True)
    np.testing.assert_array_equal(result.counts["layer"][:, 0], expected)
    np.testing.assert_array_equal(result.membranes[:, 0, 0, 0], 127 * expected.sum((1, 2, 3)) + 1)


def test_membranes_next_to_a_multiple_of_theta() -> None:
    """v = k * theta - 1 and k * theta, up to the largest membranes float32 is trusted with."""
    theta = 99_991
    weights = np.full((1, 500), 127, np.int8)
    for k in (1, 2, 100, 160):
        for below in (0, 1):
            target = k * theta - below
            network = Network(
                "edge",
                1,
                (
                    an_input((500, 1, 1)),
                    a_layer("layer", (1, 1, 1), (dense("input", weights),), CountRange(0, 255, 8), theta=theta),
                    a_layer("output", (1, 1, 1), (dense("layer", [[1]]),)),
                ),
            )
            full, rest = divmod(target, 127 * 255)
            assert full < 500
            counts = np.zeros((1, 500, 1, 1), np.int64)
            counts[0, :full] = 255
            biased = network.replace(
                nodes=(
                    network.nodes[0],
                    a_layer(
                        "layer",
                        (1, 1, 1),
                        (dense("input", weights),),
                        CountRange(0, 255, 8),
                        theta=theta,
                        bias=rest,
                    ),
                    network.nodes[2],
                )
            )
            assert _Model(biased).layers["layer"].dtype == torch.float32
            assert run(biased, counts).membranes.item() == k - below


def test_reduced_precision_settings_change_nothing() -> None:
    network = random_network(7, 1)
    counts = random_images(network, 7, 20)
    expected = run(network, counts).membranes
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        np.testing.assert_array_equal(run(network, counts).membranes, expected)
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


def test_float32_limit_is_the_range_proof() -> None:
    bounds = membrane_ranges(wide(57, 3, 1, CountRange(0, 255, 8)))["layer"]
    assert bounds.partial.max() < FLOAT32_EXACT < bounds.partial.max() * 58 // 57


def test_max_pooling_over_time_is_refused() -> None:
    network = Network(
        "pooled",
        1,
        (
            an_input((1, 2, 2)),
            MaxPool("pool", (1, 1, 1), "input", (2, 2), (2, 2)),
            a_layer("output", (1, 1, 1), (dense("pool", [[1]]),)),
        ),
    )
    assert run(network, np.array([3, 9, 4, 1]).reshape(1, 1, 2, 2)).membranes.item() == 9
    with pytest.raises(NetworkError, match=r"'pool'.*max pooling of spike counts is exact at T = 1 only.*T = 2"):
        run(network, np.zeros((1, 1, 2, 2), int), timesteps=2)


def test_wrong_counts_are_refused() -> None:
    network = one_neuron(CountRange(0, 1, 4), 1, theta=1, v0=0, bias=0)
    with pytest.raises(InputError, match="integers, not float64"):
        run(network, np.zeros((1, 1, 1, 1)))
    with pytest.raises(InputError, match=r"shape \(1, 2, 1, 1\).*\[batch, 1, 1, 1\]"):
        run(network, np.zeros((1, 2, 1, 1), int))
    with pytest.raises(InputError, match=r"from 0 to 101.*takes -100 to 100"):
        run(network, np.array([0, 101]).reshape(2, 1, 1, 1))


def test_membranes_beyond_32_bits_are_refused() -> None:
    nodes = (
        an_input((1000, 1, 1)),
        a_layer("huge", (1, 1, 1), (dense("input", np.full((1, 1000), 127)),)),
    )
    network = Network("overflow", 255, nodes)
    with pytest.raises(NetworkError, match=r"'huge'.*needs 34 bits; 32 is the most"):
        run(network, np.zeros((1, 1000, 1, 1), int))


def test_progress_bar_counts_images(capsys: pytest.CaptureFixture[str]) -> None:
    network = random_network(3, 1)
    run(network, random_images(network, 0, 5), progress=True, chunk=2)
    assert "5/5" in capsys.readouterr().err
