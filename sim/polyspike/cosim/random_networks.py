"""Random small integer networks, for comparing implementations with each other. Seeded, so a failure can be repeated.

Every network passes the verifier and the overflow proof at 24 bits, and takes a few thousand cycles on the smallest
configuration. Thresholds are scaled to the sums they see, so that counts neither vanish nor saturate everywhere.

An `Aim` asks for a network in which something certain happens, for what happens rarely by chance.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyspike.network import (
    CountRange,
    Input,
    Layer,
    MaxPool,
    Network,
    Neuron,
    Node,
    Synapse,
    membrane_range,
    membrane_ranges,
    verify,
)
from polyspike.spec.lfsr import TAPS, Lfsr

#: Width of the accumulator that every network fits.
MEMBRANE_BITS = 24

_ONE = np.float64(1.0)

#: Along y and along x.
_Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a network is to have: a layer that a configuration of `columns` times `lanes` computes in a certain way.

    How columns are used is the compiler's choice. What is built makes the wanted one likely, and so it is with stalls.
    """

    #: What its synapses are, in order: "conv", "depthwise", "shared" or "sumpool"; or "maxpool" alone.
    kinds: tuple[str, ...]
    #: Width of the counts it sees, and whether they can be negative.
    bits: int
    signed: bool
    timesteps: int
    #: What columns divide: "channels", "positions" or "both".
    mapping: str
    #: Whether it is the output layer, which fires membranes.
    membrane: bool = False
    rectified: bool = False
    #: Whether sums come to wait for the fire unit: several tiles a position for each column, all of them of one tap.
    drain: bool = False
    #: Whether windows are so large that adding up takes longer than writing 32-bit values of all columns; otherwise the
    #: compiler does not let them divide positions.
    deep: bool = False
    #: Where not 0, channels of a source that is seen as a whole, 7 x 7 pixels at once; with enough of them, and
    #: timesteps, that does not fit the spike memory.
    whole: int = 0
    #: Width of the counts it fires, and whether they can be negative; None for any.
    fired: tuple[int, bool] | None = None
    columns: int = 1
    lanes: int = 8


def random_network(seed: int, *, count_bits: int = 8) -> Network:
    """Return the random network of a seed. Its neurons emit counts of at most `count_bits` bits."""
    return _sound(lambda largest: _Builder(np.random.default_rng(seed), f"random{seed}", count_bits, largest).build())


def aimed_network(seed: int, aim: Aim) -> Network:
    """Return the random network of a seed that has what `aim` says."""
    return _sound(lambda largest: _Aimed(np.random.default_rng(seed), f"aimed{seed}", 8, largest).build_aimed(aim))


def paired_network(seed: int) -> Network:
    """Return the random network of a seed most of whose layers can work on pairs of positions."""
    return _sound(lambda largest: _Paired(np.random.default_rng([seed, 4]), f"paired{seed}", 4, largest).build())


def with_negative_thresholds(network: Network, seed: int) -> Network:
    """Return a network some of whose neurons have a negative threshold of their own, most of them about their theta."""
    rng = np.random.default_rng([seed, 2])
    nodes: list[Node] = []
    for node in network:
        if isinstance(node, Layer) and node.neuron is not None and rng.random() < 0.8:
            theta = node.neuron.theta
            theta_neg = np.where(rng.random(len(theta)) < 0.2, 0, rng.integers(0, 2 * theta, endpoint=True))
            neuron = dataclasses.replace(node.neuron, theta_neg=theta_neg.astype(np.int32))
            node = dataclasses.replace(node, neuron=neuron)
        nodes.append(node)
    return verify(network.replace(nodes=tuple(nodes)))


def with_events(network: Network) -> Network:
    """Return a network whose input is events, another map at every timestep."""
    node = network.input
    channels = node.image[0]
    events = dataclasses.replace(node, bins=network.timesteps, mean=(0.0,) * channels, std=(1.0,) * channels)
    return verify(network.replace(nodes=(events, *network.nodes[1:])))


def with_random_firing(network: Network, seed: int) -> Network:
    """Return a network most of whose neurons are probabilistic, as far as what they add up fits the accumulator."""
    rng = np.random.default_rng([seed, 3])
    for index, node in enumerate(network.nodes):
        if not isinstance(node, Layer) or node.neuron is None or rng.random() < 0.2:
            continue
        channels = node.shape[0]
        taps = int(rng.choice([TAPS, TAPS, 0xB400, 0xE10000]))
        lfsr = Lfsr(taps, int(rng.integers(1, 1 << taps.bit_length())))
        ones = np.ones(channels, np.int32)
        neuron = Neuron(CountRange(0, 1, 4), ones, 0 * ones, lfsr=lfsr)
        high = membrane_range(network, dataclasses.replace(node, neuron=neuron, bias=0 * ones)).high
        theta = (high * rng.uniform(0.02, 0.5, channels) / network.timesteps).astype(np.int32).clip(1, 1 << 18)
        v0 = theta // 2 if rng.random() < 0.5 else rng.integers(-theta, theta, endpoint=True)
        bias = rng.integers(-theta // 2, theta // 2, endpoint=True).astype(np.int32)
        neuron = dataclasses.replace(neuron, theta=theta, v0=v0.astype(np.int32))
        changed = dataclasses.replace(node, neuron=neuron, bias=bias)
        if membrane_range(network, changed).bits().max() <= MEMBRANE_BITS:
            network = network.replace(nodes=(*network.nodes[:index], changed, *network.nodes[index + 1 :]))
    return verify(network)


def _sound(build: Callable[[int], Network]) -> Network:
    """Return what `build` makes with the largest weights for which no membrane overflows."""
    largest_weight = 127
    while True:
        network = build(largest_weight)
        needed = max(int(ranges.bits().max()) for ranges in membrane_ranges(network).values())
        if needed <= MEMBRANE_BITS:
            return verify(network)
        largest_weight //= 2


def random_images(network: Network, seed: int, batch: int) -> NDArray[np.uint8]:
    """Return images (or events) for a network, uint8 [batch, ...], about a third of the pixels zero."""
    rng = np.random.default_rng([seed, 1])
    shape = (batch, *network.input.item)
    # Events are counts as they are; of those above the range there should be few.
    pixels = rng.integers(0, 256 if network.input.bins is None else network.input.counts.n_pos + 3, shape)
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
        self.neurons(f"n{len(self.nodes)}", shape, synapses, counts, None)

    def neurons(
        self,
        name: str,
        shape: tuple[int, int, int],
        synapses: list[Synapse],
        counts: CountRange,
        rectified: bool | None,
    ) -> Layer:
        """Add a layer that spikes; whether it is `rectified` is left to chance with None."""
        channels = shape[0]
        spread = self.spread(synapses)
        limit = 1 << (MEMBRANE_BITS - 2 - counts.bits)
        wanted = spread * 2 / counts.largest * self.rng.uniform(0.5, 1.5, channels)
        theta = np.clip(np.rint(wanted), 1, limit).astype(np.int32)
        v0 = theta // 2 if self.chance(0.7) else self.rng.integers(-theta, theta + 1)
        bias = np.rint(self.rng.normal(0.2, 0.4, channels) * spread).astype(np.int32)
        if rectified is None:
            rectified = self.chance(0.3)
        neuron = Neuron(counts, theta, v0.astype(np.int32), rectified)
        layer = Layer(name, shape, tuple(synapses), bias, neuron, np.full(channels, _ONE))
        self.remember(layer, counts)
        return layer

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


class _Paired(_Builder):
    """Builds maps of 4-bit counts that are an even number of pixels wide, except where it pools maxima."""

    def input(self) -> None:
        shape = (self.pick(1, 2, 3, 9, 20), self.pick(2, 3, 5, 6), self.pick(2, 4, 6, 8))
        counts, channels = CountRange(0, 15, 4), shape[0]
        self.remember(Input("input", shape, counts, 1 / 15, (0.0,) * channels, (1.0,) * channels, shape), counts)

    def window(self, source: Node) -> tuple[_Pair, _Pair, _Pair]:
        while True:
            window, stride, padding = super().window(source)
            if ((source.shape[2] + 2 * padding[1] - window[1]) // stride[1] + 1) % 2 == 0:
                return window, stride, padding


class _Aimed(_Builder):
    """Builds the layer of an aim, something before it, and an output."""

    def build_aimed(self, aim: Aim) -> Network:
        self.timesteps = aim.timesteps
        # Tiles of output channels, and sizes of output maps, for which columns are used as wanted.
        tiles = {"positions": 1, "both": 2, "channels": aim.columns}[aim.mapping]
        if aim.drain and aim.columns > 1:
            tiles += aim.columns
        channels = aim.lanes * tiles - self.pick(0, 0, 1, 3)
        if aim.whole:
            channels = 10 if set(aim.kinds) == {"conv"} else aim.whole
        size, shape = self.geometry(aim)
        height, width = (
            (out - 1) * stride + window - 2 * padding for out, window, stride, padding in zip(size, *shape, strict=True)
        )
        source = self.source(aim, channels, (height, width))
        if aim.kinds == ("maxpool",):
            self.remember(MaxPool("aimed", (source.shape[0], *size), source.name, *shape), self.ranges[source.name])
        else:
            self.layer(aim, source, channels, shape)
        if not isinstance(self.nodes[-1], Layer) or self.nodes[-1].neuron is not None:
            self.output(self.nodes[-1])
        return Network(self.name, self.timesteps, tuple(self.nodes))

    def geometry(self, aim: Aim) -> tuple[_Pair, tuple[_Pair, _Pair, _Pair]]:
        """Return the size of the layer's map, and window, stride and padding of what it is made of."""
        summed = not {"shared", "sumpool"}.isdisjoint(aim.kinds)
        none, one = (0, 0), (1, 1)
        if aim.whole:
            return one, ((7, 7), one, none)
        if aim.drain:
            # Of two taps one is always outside the map, because taking sums over one alone is no pooling.
            shape = (one, one, none) if aim.kinds == ("maxpool",) else ((2, 1), one, (1, 0))
            return (2, 4), shape
        if aim.deep:
            own = not {"depthwise", "sumpool"}.isdisjoint(aim.kinds)
            window = (9 if aim.bits == 4 else 6) if own else 3
            return (self.pick(4, 5, 6),) * 2, ((window,) * 2, one, none)
        size = self.pick(1, 2) if aim.mapping == "channels" else self.pick(4, 5, 6)
        window = max(self.pick(1, 2, 3), 2 if summed or aim.kinds == ("maxpool",) else 1)
        stride = self.pick(1, 1, 2) if size < 4 else 1
        return (size, size), ((window,) * 2, (stride,) * 2, none)

    def format(self, bits: int, signed: bool) -> CountRange:
        """Return a range of counts; what is not signed uses every code."""
        top = (1 << bits) - 1
        if not signed:
            return CountRange(0, top, bits)
        n_neg = self.pick(1, 1 << (bits - 1), int(self.rng.integers(1, (1 << (bits - 1)) + 1)))
        return CountRange(n_neg, top - n_neg, bits)

    def source(self, aim: Aim, channels: int, size: _Pair) -> Node:
        """Add what the layer sees: the input, or a layer behind it."""
        own = not {"depthwise", "sumpool", "maxpool"}.isdisjoint(aim.kinds)
        inputs = aim.whole or (
            channels if own else self.pick(1, 2) if aim.drain else 33 if aim.deep else self.pick(1, 3, 8, 17)
        )
        counts = self.format(aim.bits, aim.signed)
        # The input is the same at every timestep, and kept once.
        direct = not aim.whole and self.chance(0.5)
        shape = (inputs if direct else self.pick(1, 2, 3), *size)
        seen = counts if direct else self.format(self.pick(4, 8), signed=False)
        node: Node = Input(
            "input", shape, seen, 1 / seen.largest, (0.5 * (seen.n_neg > 0),) * shape[0], (1.0,) * shape[0], shape
        )
        self.remember(node, seen)
        if not direct:
            synapse = Synapse("input", self.weight(inputs, shape[0], 1, 1), (1, 1))
            node = self.neurons("before", (inputs, *size), [synapse], counts, None)
        return node

    def layer(self, aim: Aim, source: Node, channels: int, shape: tuple[_Pair, _Pair, _Pair]) -> None:
        """Add the layer itself."""
        inputs = source.shape[0]

        def one(kind: str) -> Synapse:
            if kind == "sumpool":
                return Synapse(source.name, np.ones((inputs, 1, 1, 1), np.int8), *shape, groups=inputs)
            if kind == "depthwise":
                return Synapse(source.name, self.weight(inputs, 1, *shape[0]), *shape, groups=inputs)
            if kind == "shared":
                return Synapse(source.name, self.weight(channels, inputs, 1, 1), *shape)
            return Synapse(source.name, self.weight(channels, inputs, *shape[0]), *shape)

        synapses = [one(kind) for kind in aim.kinds]
        size = synapses[0].output_size(*source.shape[1:])
        if aim.membrane:
            bias = np.rint(self.rng.normal(0, 0.3, channels) * self.spread(synapses)).astype(np.int32)
            layer = Layer("output", (channels, *size), tuple(synapses), bias, None, np.full(channels, _ONE))
            self.nodes.append(layer)
            return
        fired = aim.fired or (self.pick(4, 8), self.chance(0.5))
        self.neurons("aimed", (channels, *size), synapses, self.format(*fired), aim.rectified)
