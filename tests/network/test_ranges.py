"""The bounds of the no-overflow proof, against neurons driven to their extremes one integer at a time."""

import dataclasses
import itertools

import numpy as np
import pytest

from golden import naive
from golden.networks import a_layer, an_input, dense, random_network
from polyspike.network import CountRange, Layer, Network, Synapse, membrane_ranges


def gradient(network: Network, layer: Layer, position: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """How much one count more, at each place of each source, adds to the sum at `position`."""
    channel, y, x = position
    slopes = {s.source: np.zeros(network[s.source].shape, int) for s in layer.synapses}
    for synapse in layer.synapses:
        slope = slopes[synapse.source]
        inputs = synapse.weight.shape[1]
        group = channel // (layer.shape[0] // synapse.groups)
        for i, ky, kx in itertools.product(range(inputs), range(synapse.window[0]), range(synapse.window[1])):
            iy = y * synapse.stride[0] - synapse.padding[0] + ky
            ix = x * synapse.stride[1] - synapse.padding[1] + kx
            if 0 <= iy < slope.shape[1] and 0 <= ix < slope.shape[2]:
                taps = synapse.weight.shape[2:]
                weight = int(synapse.weight[channel, i, ky % taps[0], kx % taps[1]])
                slope[group * inputs + i, iy, ix] += weight * 2**synapse.shift
    return slopes


def driven(network: Network, slopes: dict[str, np.ndarray], sign: int) -> dict[str, np.ndarray]:
    """The legal counts that make the sum as large (sign 1) or as small (sign -1) as counts can."""
    maps = {}
    for name, slope in slopes.items():
        counts = network.counts(name)
        maps[name] = np.where(sign * slope > 0, counts.n_pos, np.where(slope == 0, 0, -counts.n_neg))
    return maps


def step_sum(network: Network, layer: Layer, position: tuple[int, int, int], maps: dict[str, np.ndarray]) -> int:
    """Sum and bias of one timestep, by the plain loops that the golden model is compared with."""
    silent = dataclasses.replace(layer, neuron=None)
    return naive.neuron(network, silent, position, {name: each[None] for name, each in maps.items()}, 1)[1]


def membranes(layer: Layer, channel: int, sums: tuple[int, ...]) -> list[int]:
    """The membrane before each firing (or, without a neuron, after each timestep) for given sums."""
    neuron = layer.neuron
    v = int(neuron.v0[channel]) if neuron is not None else 0
    seen, emitted = [], 0
    for each in sums:
        v += each
        seen.append(v)
        if neuron is not None and neuron.lfsr is None:
            theta = int(neuron.theta[channel])
            lowest = min(neuron.counts.n_neg, emitted) if neuron.rectified else neuron.counts.n_neg
            if neuron.theta_neg is not None and -neuron.theta_neg[channel] <= v < 0:
                lowest = 0
            count = min(max(v // theta, -lowest), neuron.counts.n_pos)
            v -= theta * count
            emitted += count
    if neuron is not None and neuron.lfsr is not None:
        # The worst that numbers can do: a spike wherever there may be one.
        for _ in sums:
            v -= int(neuron.theta[channel]) * (v > 0)
            seen.append(v)
    return seen


def whole(network: Network, layer: Layer, position: tuple[int, int, int]) -> bool:
    """Whether no window hangs over a border, and no source is used twice."""
    _, y, x = position
    for s in layer.synapses:
        _, height, width = network[s.source].shape
        top, left = y * s.stride[0] - s.padding[0], x * s.stride[1] - s.padding[1]
        if top < 0 or left < 0 or top + s.window[0] > height or left + s.window[1] > width:
            return False
    return len({s.source for s in layer.synapses}) == len(layer.synapses)


def places(layer: Layer, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Some positions of some channels: a middle one, where windows are whole, and a corner."""
    channels, height, width = layer.shape
    chosen = rng.permutation(channels)[:2].tolist()
    return [(c, y, x) for c in chosen for y, x in {(height // 2, width // 2), (0, 0)}]


@pytest.mark.parametrize("timesteps", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_no_counts_leave_the_bounds(seed: int, timesteps: int) -> None:
    network = random_network(seed * 10 + timesteps, timesteps)
    rng = np.random.default_rng(seed)
    ranges = membrane_ranges(network)
    assert list(ranges) == [node.name for node in network if isinstance(node, Layer)]
    for layer in (node for node in network if isinstance(node, Layer)):
        bound = ranges[layer.name]
        n_neg = layer.neuron.counts.n_neg if layer.neuron is not None else 0
        for channel, y, x in places(layer, rng):
            slopes = gradient(network, layer, (channel, y, x))
            least, most = (step_sum(network, layer, (channel, y, x), driven(network, slopes, sign)) for sign in (-1, 1))
            bias = int(layer.bias[channel])
            theta = int(layer.neuron.theta[channel]) if layer.neuron is not None else 0
            assert max(abs(least - bias), abs(most - bias)) + abs(bias) <= bound.partial[channel]
            between = [int(value) for value in rng.integers(least, most + 1, 3)]
            for sums in itertools.product([least, most, bias, *between], repeat=timesteps):
                for v in membranes(layer, channel, sums):
                    assert bound.low[channel] <= v <= bound.high[channel]
                    assert max(abs(v), abs(v + n_neg * theta)) <= bound.reach[channel]
            assert bound.partial[channel] <= bound.reach[channel]
            assert -(1 << int(bound.bits()[channel]) - 1) <= -int(bound.reach[channel])


@pytest.mark.parametrize("seed", range(40))
def test_extreme_counts_reach_the_bounds_at_one_timestep(seed: int) -> None:
    """Counts chosen by the sign of each weight; also the magnitude that any order of additions can reach."""
    network = random_network(seed, 1)
    reached = 0
    for layer in (node for node in network if isinstance(node, Layer)):
        bound = membrane_ranges(network)[layer.name]
        for position in itertools.product(range(layer.shape[0]), (layer.shape[1] // 2,), (layer.shape[2] // 2,)):
            if not whole(network, layer, position):
                continue
            channel = position[0]
            slopes = gradient(network, layer, position)
            v0 = int(layer.neuron.v0[channel]) if layer.neuron is not None else 0
            high = v0 + step_sum(network, layer, position, driven(network, slopes, 1))
            low = v0 + step_sum(network, layer, position, driven(network, slopes, -1))
            assert bound.high[channel] == max(high, v0, 0)
            random = layer.neuron is not None and layer.neuron.lfsr is not None
            assert bound.low[channel] == min(low, v0, 0, 1 - layer.neuron.theta[channel] if random else 0)
            magnitudes = sum(int(np.abs(s).sum()) * network.counts(name).largest for name, s in slopes.items())
            assert bound.partial[channel] == magnitudes + abs(int(layer.bias[channel]))
            reached += 1
    assert reached


UNSIGNED = CountRange(0, 10, 4)


def chain(timesteps: int, counts: CountRange | None, source: CountRange = UNSIGNED, **fields) -> Network:
    """One input, weights 100 and -3, and in channel 1 the other way round."""
    synapses = (dense("input", [[100, -3], [-100, 3]]),)
    first = a_layer("layer", (2, 1, 1), synapses, counts, **fields)
    nodes = [an_input((2, 1, 1), source), first]
    if counts is not None:
        nodes.append(a_layer("output", (1, 1, 1), (dense("layer", [[1, 1]]),)))
    return Network("chain", timesteps, tuple(nodes))


def bounds(network: Network) -> tuple[list[int], list[int], list[int], list[int]]:
    ranges = membrane_ranges(network)["layer"]
    return ranges.low.tolist(), ranges.high.tolist(), ranges.partial.tolist(), ranges.reach.tolist()


def test_membranes_that_are_not_reset_grow_with_time_by_hand() -> None:
    # Per timestep -30 .. 1000 and the other way round, with a bias of 7.
    assert bounds(chain(3, None, bias=7)) == ([-69, -2979], [3021, 111], [1037, 1037], [3021, 2979])


def test_what_saturated_neurons_keep_by_hand() -> None:
    """At most 5 * 40 = 200 leaves in each timestep; a silent neuron only sinks."""
    network = chain(3, CountRange(0, 5, 4), theta=40, v0=20)
    low, high, partial, reach = bounds(network)
    assert high == [20 + 3 * 1000 - 2 * 200, 39 + 30]
    assert low == [20 - 3 * 30, 20 - 3 * 1000]
    assert partial == [1030, 1030]
    assert reach == [2620, 2980]
    assert max(membranes(network["layer"], 0, (1000,) * 3)) == high[0]
    assert min(membranes(network["layer"], 1, (-1000,) * 3)) == low[1]


@pytest.mark.parametrize("rectified", [False, True])
def test_negative_spikes_hold_membranes_up_unless_rectified(rectified: bool) -> None:
    """-2 * 40 comes back in each timestep, but a rectified neuron that has emitted nothing gets nothing back."""
    network = chain(4, CountRange(2, 5, 4), theta=40, rectified=rectified)
    low, high, _, reach = bounds(network)
    back = 0 if rectified else 80
    assert low[1] == -4 * 1000 + 3 * back
    assert min(membranes(network["layer"], 1, (-1000,) * 4)) == low[1]
    assert high[0] == 4 * 1000 - 3 * 200
    assert max(membranes(network["layer"], 0, (1000,) * 4)) == high[0]
    # The comparison with -n_neg * theta adds it to the membrane.
    assert reach[0] == high[0] + 80
    assert reach[1] == -low[1]


def test_signed_sources_drive_both_ways() -> None:
    low, high, partial, _ = bounds(chain(1, None, CountRange(8, 3, 4)))
    assert high == [100 * 3 + 3 * 8, 100 * 8 + 3 * 3]
    assert low == [-100 * 8 - 3 * 3, -100 * 3 - 3 * 8]
    assert partial == [103 * 8] * 2


def test_shared_taps_shifts_and_groups_count() -> None:
    weight = np.array([5, -7], np.int8).reshape(2, 1, 1, 1)
    pooling = Synapse("input", weight, (3, 2), groups=2, shift=4)
    layer = a_layer("layer", (2, 1, 1), (pooling, pooling))
    ranges = membrane_ranges(Network("pooled", 1, (an_input((2, 3, 2), CountRange(0, 15, 4)), layer)))["layer"]
    assert ranges.high.tolist() == [2 * 6 * 15 * 5 * 16, 0]
    assert ranges.low.tolist() == [0, -2 * 6 * 15 * 7 * 16]


@pytest.mark.parametrize(
    ("counts", "weight", "bits"), [(127, 1, 8), (128, 1, 9), (255, 1, 9), (255, 127, 16), (1, 1, 2), (1, 0, 1)]
)
def test_width_with_its_sign(counts: int, weight: int, bits: int) -> None:
    layer = a_layer("layer", (2, 1, 1), (dense("input", [[weight], [-weight]]),))
    network = Network("width", 1, (an_input((1, 1, 1), CountRange(0, counts, 8)), layer))
    # -128 would fit 8 bits; the bound is one on the magnitude.
    assert membrane_ranges(network)["layer"].bits().tolist() == [bits, bits]


def test_bounds_beyond_32_bits_do_not_wrap() -> None:
    layer = a_layer("layer", (1, 1, 1), (dense("input", np.full((1, 4000), 127)),), bias=2**31 - 1)
    network = Network("huge", 255, (an_input((4000, 1, 1)), layer))
    ranges = membrane_ranges(network)["layer"]
    assert ranges.high.tolist() == [255 * (127 * 255 * 4000 + 2**31 - 1)]
    assert ranges.bits().tolist() == [41]
