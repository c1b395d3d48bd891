"""Small networks for tests: random ones that use every feature of the IR, and the parts to build others by hand."""

import numpy as np

from polyspike.network import CountRange, Input, Layer, MaxPool, Network, Neuron, Node, Synapse, verify
from polyspike.spec.lfsr import TAPS, Lfsr


def an_input(shape: tuple[int, int, int], counts: CountRange | None = None) -> Input:
    """One count is one 255th of a pixel, so that images and counts are the same numbers up to n_pos."""
    counts = counts or CountRange(0, 255, 8)
    return Input("input", shape, counts, 1 / 255, (0.0,) * shape[0], (1.0,) * shape[0], shape)


def a_layer(
    name: str,
    shape: tuple[int, int, int],
    synapses: tuple[Synapse, ...],
    counts: CountRange | None = None,
    *,
    theta: int = 1,
    v0: int = 0,
    bias: int = 0,
    rectified: bool = False,
) -> Layer:
    """A layer with the same parameters in every channel; without `counts`, one of membranes."""

    def full(value: int) -> np.ndarray:
        return np.full(shape[0], value, np.int32)

    neuron = None if counts is None else Neuron(counts, full(theta), full(v0), rectified)
    return Layer(name, shape, synapses, full(bias), neuron, np.ones(shape[0]))


def dense(source: str, weight: list[list[int]] | np.ndarray) -> Synapse:
    """A linear map between vectors."""
    return Synapse(source, np.asarray(weight, np.int8)[:, :, None, None], (1, 1))


def random_counts(rng: np.random.Generator, bits: int | None = None) -> CountRange:
    bits = bits or int(rng.choice([4, 8]))
    most = (1 << bits) - 1
    n_neg = int(rng.choice([0, 0, 1, rng.integers(0, (1 << (bits - 1)) + 1)]))
    n_pos = int(rng.choice([1, most - n_neg, rng.integers(1, most - n_neg + 1)]))
    return CountRange(n_neg, n_pos, bits)


def probabilistic(rng: np.random.Generator, neuron: Neuron) -> Neuron:
    """The same with random firing, mostly from the usual register."""
    taps = int(rng.choice([TAPS, TAPS, 0xB400, 0xE10000]))
    lfsr = Lfsr(taps, int(rng.integers(1, 1 << taps.bit_length())))
    return Neuron(CountRange(0, 1, 4), neuron.theta, neuron.v0, lfsr=lfsr)


def random_network(seed: int, timesteps: int) -> Network:
    """A verified network of one to five layers on a map of at most 7 x 7."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = [
        an_input((int(rng.integers(1, 6)), int(rng.integers(4, 8)), int(rng.integers(4, 8))), random_counts(rng))
    ]
    for index in range(rng.integers(1, 6)):
        if timesteps == 1 and rng.random() < 0.2:
            nodes.append(_random_pool(rng, f"pool{index}", nodes[-1]))
        else:
            nodes.append(_random_layer(rng, f"layer{index}", nodes))
    last = nodes[-1]
    out = int(rng.integers(1, 6))
    weight = _random_weight(rng, (out, *last.shape))
    synapse = Synapse(last.name, weight, last.shape[1:])
    bias = rng.integers(-1000, 1000, out).astype(np.int32)
    nodes.append(Layer("output", (out, 1, 1), (synapse,), bias, None, rng.uniform(0.1, 2.0, out)))
    return verify(Network(f"random {seed}", timesteps, tuple(nodes)))


def random_images(network: Network, seed: int, batch: int) -> np.ndarray:
    """Input counts over the whole range, its ends included."""
    rng = np.random.default_rng(seed)
    counts = network.input.counts
    values = rng.integers(-counts.n_neg, counts.n_pos + 1, (batch, *network.input.shape))
    ends = rng.choice([-counts.n_neg, 0, counts.n_pos], values.shape)
    return np.where(rng.random(values.shape) < 0.5, values, ends).astype(np.int16)


def _random_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    weight = rng.integers(-127, 128, shape)
    return np.where(rng.random(shape) < 0.7, weight, 0).astype(np.int8)


def _random_pool(rng: np.random.Generator, name: str, source: Node) -> MaxPool:
    window = tuple(int(rng.integers(1, min(3, size) + 1)) for size in source.shape[1:])
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = tuple(int(rng.integers(0, size // 2 + 1)) for size in window)
    sizes = [
        (size + 2 * p - k) // s + 1 for size, k, s, p in zip(source.shape[1:], window, stride, padding, strict=True)
    ]
    return MaxPool(name, (source.shape[0], sizes[0], sizes[1]), source.name, window, stride, padding)


def _random_layer(rng: np.random.Generator, name: str, nodes: list[Node]) -> Layer:
    source = nodes[-1]
    synapses = [_random_synapse(rng, source)]
    shape = (synapses[0].weight.shape[0], *synapses[0].output_size(*source.shape[1:]))
    # A second synapse: a shortcut from any node of the right size.
    for other in nodes:
        if len(synapses) == 1 and other.shape[1:] == shape[1:] and rng.random() < 0.7:
            depthwise = other.shape[0] == shape[0] and rng.random() < 0.7
            groups = shape[0] if depthwise else 1
            weight = _random_weight(rng, (shape[0], other.shape[0] // groups, 1, 1))
            synapses.append(Synapse(other.name, weight, (1, 1), groups=groups, shift=int(rng.integers(0, 8))))
    spread = 127 * np.sqrt(synapses[0].weight[0].size * np.prod(synapses[0].window)) * 8
    theta = rng.integers(1, max(2, int(spread * rng.choice([0.05, 0.5]))), shape[0]).astype(np.int32)
    bias = rng.integers(-int(spread) // 4, int(spread) // 4 + 1, shape[0]).astype(np.int32)
    v0 = (theta // 2) if rng.random() < 0.7 else rng.integers(-100, 100, shape[0])
    counts, rectified = random_counts(rng), bool(rng.random() < 0.4)
    theta_neg = rng.integers(0, 2 * theta, endpoint=True).astype(np.int32) if rng.random() < 0.3 else None
    neuron = Neuron(counts, theta, v0.astype(np.int32), rectified, theta_neg)
    if rng.random() < 0.25:
        neuron = probabilistic(rng, neuron)
    return Layer(name, shape, tuple(synapses), bias, neuron, rng.uniform(0.1, 2.0, shape[0]))


def _random_synapse(rng: np.random.Generator, source: Node) -> Synapse:
    channels, height, width = source.shape
    kind = rng.choice(["full", "full", "depthwise", "grouped", "shared", "sum"])
    window = (int(rng.integers(1, min(3, height) + 1)), int(rng.integers(1, min(3, width) + 1)))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = (int(rng.integers(0, 3)), int(rng.integers(0, 3)))
    shift = int(rng.choice([0, 0, 1, 3]))
    out = int(rng.integers(1, 7))
    groups = 1
    if kind in ("depthwise", "sum"):
        groups = out = channels
    elif kind == "grouped":
        groups = channels
        out = channels * int(rng.integers(1, 3))
    taps = (1, 1) if kind in ("shared", "sum") else window
    if kind == "sum":
        weight = np.ones((out, 1, 1, 1), np.int8)
    else:
        weight = _random_weight(rng, (out, channels // groups, *taps))
    return Synapse(source.name, weight, window, stride, padding, groups, shift)
