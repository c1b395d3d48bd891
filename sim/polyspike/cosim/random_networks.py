"""Random small integer networks, for comparing implementations with each other. Seeded, so a failure can be repeated.

Every network passes the verifier and the overflow proof at 24 bits, and takes a few thousand cycles on the smallest
configuration. Thresholds are scaled to the sums they see, so that counts neither vanish nor saturate everywhere.
"""

import math

import numpy as np
from numpy.typing import NDArray

from polyspike.network import CountRange, Input, Layer, MaxPool, Network, Neuron, Node, Synapse, membrane_ranges, verify

#: Width of the accumulator that every network fits.
MEMBRANE_BITS = 24

_ONE = np.float64(1.0)


def random_network(seed: int, *, count_bits: int = 8) -> Network:
    """Return the random network of a seed. Its neurons emit counts of at most `count_bits` bits."""
    largest_weight = 127
    while True:
        network = _Builder(np.random.default_rng(seed), f"random{seed}", count_bits, largest_weight).build()
        needed = max(int(ranges.bits().max()) for ranges in membrane_ranges(network).values())
        if needed <= MEMBRANE_BITS:
            return verify(network)
        largest_weight //= 2


def random_images(network: Network, seed: int, batch: int) -> NDArray[np.uint8]:
    """Return images for a network, uint8 [batch, channels, height, width], about a third of the pixels zero."""
    rng = np.random.default_rng([seed, 1])
    shape = (batch, *network.input.image)
    pixels = rng.integers(0, 256, shape)
    return np.where(rng.random(shape) < 0.35, 0, pixels).astype(np.uint8)


class _Builder:
    def __init__(self, rng: np.random.Generator, name: str, count_bits: int, largest_weight: int) -> None:
        self.rng = rng
        self.name = name
        self.count_bits = count_bits
        self.largest_weight = largest_weight
        self.nodes: list[Node] = []
        #: root mean square of each node's counts, roughly
        self.size: dict[str, float] = {}
        self.ranges: dict[str, CountRange] = {}

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def build(self) -> Network:
        self.timesteps = self.pick(1, 1, 2, 3, 4)
        self.input()
        for _ in range(self.pick(1, 2, 2, 3)):
            node = self.nodes[-1]
            kinds = ["conv", "conv", "depthwise", "grouped", "sumpool", "shared", "join", "join"]
            if self.timesteps == 1:
                kinds += ["maxpool", "maxpool"]
            kind = str(self.rng.choice(kinds))
            if kind == "maxpool":
                self.max_pool(node)
            else:
                self.spiking(node, kind)
        self.output(self.nodes[-1])
        return Network(self.name, self.timesteps, tuple(self.nodes))

    def counts(self, bits: int) -> CountRange:
        top = (1 << bits) - 1
        form = self.pick(0, 0, 1, 2, 3)
        if form == 0:
            return CountRange(0, self.pick(top, top, top // 2, 1), bits)
        if form == 1:
            return CountRange(1 << (bits - 1), (1 << (bits - 1)) - 1, bits)
        if form == 2:
            n_neg = int(self.rng.integers(1, (1 << (bits - 1)) + 1))
            return CountRange(n_neg, int(self.rng.integers(1, top - n_neg + 1)), bits)
        return CountRange(1, self.pick(1, top - 1), bits)

    def remember(self, node: Node, counts: CountRange) -> None:
        self.nodes.append(node)
        self.ranges[node.name] = counts
        self.size[node.name] = 0.4 * max(counts.n_neg, counts.n_pos) + 0.3

    def input(self) -> None:
        shape = (self.pick(1, 1, 2, 3, 5, 9, 20), int(self.rng.integers(3, 8)), int(self.rng.integers(3, 8)))
        bits = self.pick(4, 8, 8)
        top = (1 << bits) - 1
        if self.chance(0.6):
            counts, mean, scale = CountRange(0, top, bits), 0.0, 1 / top
        else:
            counts, mean, scale = CountRange(top // 2, top // 2, bits), 0.5, 1 / (top - 1)
        channels = shape[0]
        self.remember(Input("input", shape, counts, scale, (mean,) * channels, (1.0,) * channels, shape), counts)

    def max_pool(self, source: Node) -> None:
        kernel = self.pick(*(k for k in (1, 2, 3) if k <= min(source.shape[1:])))
        stride = self.pick(1, 2, max(kernel, 1))
        padding = self.pick(0, kernel // 2)
        size = [(each + 2 * padding - kernel) // stride + 1 for each in source.shape[1:]]
        shape = (source.shape[0], size[0], size[1])
        node = MaxPool(f"n{len(self.nodes)}", shape, source.name, (kernel,) * 2, (stride,) * 2, (padding,) * 2)
        self.remember(node, self.ranges[source.name])

    def weight(self, *shape: int) -> NDArray[np.int8]:
        top = max(1, self.pick(self.largest_weight, self.largest_weight, min(7, self.largest_weight)))
        weight = self.rng.integers(-top, top + 1, shape)
        # A little more positive than negative, so that unsigned counts are not mostly zero.
        flip = (weight < 0) & (self.rng.random(shape) < 0.2)
        return np.where(flip, -weight, weight).astype(np.int8)

    def window(self, source: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return a random window, stride and padding that fit the source."""
        window, stride, padding = [], [], []
        for size in source.shape[1:]:
            pad = self.pick(0, 0, 1, 1, 2)
            kernel = self.pick(*(k for k in (1, 2, 3, 3) if k <= size + 2 * pad))
            window.append(kernel)
            stride.append(self.pick(1, 1, 2, 3))
            padding.append(pad)
        return (window[0], window[1]), (stride[0], stride[1]), (padding[0], padding[1])

    def synapse(self, source: Node, kind: str, channels: int) -> Synapse:
        window, stride, padding = self.window(source)
        inputs = source.shape[0]
        shift = self.pick(0, 0, 0, 1, 2)
        if kind == "depthwise":
            return Synapse(source.name, self.weight(inputs, 1, *window), window, stride, padding, inputs, shift)
        if kind == "sumpool":
            ones = np.ones((inputs, 1, 1, 1), np.int8)
            return Synapse(source.name, ones, window, stride, padding, inputs)
        if kind == "shared":
            return Synapse(source.name, self.weight(channels, inputs, 1, 1), window, stride, padding, 1, shift)
        groups = 1
        if kind == "grouped":
            groups = self.pick(*(g for g in range(1, inputs + 1) if inputs % g == 0))
            channels = groups * max(1, channels // groups)
        return Synapse(
            source.name, self.weight(channels, inputs // groups, *window), window, stride, padding, groups, shift
        )

    def shortcuts(self, first: Synapse, shape: tuple[int, int, int]) -> list[Synapse]:
        """Return one or two more synapses that lead to the same shape."""
        found = []
        for _ in range(self.pick(1, 1, 2)):
            source = self.nodes[self.pick(*range(len(self.nodes)))]
            if source.shape == shape and self.chance(0.8):
                scale = self.pick(1, 5, 64, 127)
                weight = np.full((shape[0], 1, 1, 1), min(scale, self.largest_weight), np.int8)
                found.append(Synapse(source.name, weight, (1, 1), groups=shape[0], shift=self.pick(0, 1, 3)))
                continue
            # A strided 1 x 1 convolution of whatever reaches the size.
            stride = [
                next((s for s in (1, 2, 3, 4, 5, 6, 7) if (have - 1) // s + 1 == want), 0)
                for have, want in zip(source.shape[1:], shape[1:], strict=True)
            ]
            if 0 not in stride:
                weight = self.weight(shape[0], source.shape[0], 1, 1)
                found.append(Synapse(source.name, weight, (1, 1), (stride[0], stride[1])))
        return found

    def spiking(self, source: Node, kind: str) -> None:
        channels = self.pick(1, 3, 4, 8, 10, 16, 17, 20, 33)
        first = self.synapse(source, "conv" if kind == "join" else kind, channels)
        height, width = first.output_size(*source.shape[1:])
        shape = (first.weight.shape[0], height, width)
        synapses = [first]
        if kind == "join":
            synapses += self.shortcuts(first, shape)
        counts = self.counts(min(self.pick(4, 4, 8), self.count_bits))
        spread = self.spread(synapses)
        limit = 1 << (MEMBRANE_BITS - 2 - counts.bits)
        theta = spread * 2 / max(counts.n_neg, counts.n_pos) * self.rng.uniform(0.5, 1.5, shape[0])
        theta = np.clip(np.rint(theta), 1, limit).astype(np.int32)
        v0 = theta // 2 if self.chance(0.7) else self.rng.integers(-theta, theta + 1)
        bias = np.rint(self.rng.normal(0.2, 0.4, shape[0]) * spread)
        self.remember(
            Layer(
                f"n{len(self.nodes)}",
                shape,
                tuple(synapses),
                bias.astype(np.int32),
                Neuron(counts, theta, v0.astype(np.int32), rectified=self.chance(0.3)),
                np.full(shape[0], _ONE),
            ),
            counts,
        )

    def spread(self, synapses: list[Synapse]) -> float:
        """Return the standard deviation to expect of a timestep's sum."""
        total = 0.0
        for synapse in synapses:
            taps = synapse.window[0] * synapse.window[1] if synapse.shared else 1
            weight = synapse.weight.astype(np.float64) * 2.0**synapse.shift
            total += float((weight**2).sum(axis=(1, 2, 3)).mean()) * taps * self.size[synapse.source] ** 2
        return max(1.0, math.sqrt(total))

    def output(self, source: Node) -> None:
        channels = self.pick(2, 5, 10, 17)
        inputs, height, width = source.shape
        form = self.pick(0, 0, 1, 2)
        if form == 0:
            synapse = Synapse(source.name, self.weight(channels, inputs, height, width), (height, width))
        elif form == 1:
            synapse = Synapse(source.name, self.weight(channels, inputs, 1, 1), (height, width))
        else:
            synapse = self.synapse(source, "conv", channels)
        shape = (channels, *synapse.output_size(height, width))
        bias = np.rint(self.rng.normal(0, 0.3, channels) * self.spread([synapse])).astype(np.int32)
        self.nodes.append(Layer("output", shape, (synapse,), bias, None, np.full(channels, _ONE)))
