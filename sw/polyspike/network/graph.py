"""The integer network IR. Three kinds of node, in topological order; everything in it is an integer but the scales.

Maps are [channel][y][x]; a vector is a map of 1 x 1 pixels. Shapes are (channels, height, width).
The arithmetic of a layer, normative for every implementation, at timestep t::

    sum[c]  = sum over synapses of (convolution of the source's counts with the synapse's weights) << shift
    v[c]    = (v0[c] if t == 0 else v[c]) + sum[c] + bias[c]
    s[c]    = clip(floor(v[c] / theta[c]), -lo, n_pos);  v[c] -= theta[c] * s[c]

with lo = n_neg, or in a rectified layer min(n_neg, spikes this neuron has emitted in earlier timesteps); where there is
a negative threshold, lo = 0 while -theta_neg[c] <= v[c] < 0.

A probabilistic layer (two-phase probabilistic neurons, TPP, arXiv 2502.14487) adds up first and fires then. After the
sums and biases of all T timesteps are in v[c], at timestep t::

    s[c]    = 1 if v[c] > 0 and v[c] * 2^16 > r * theta[c] * (T - t), else 0;  v[c] -= theta[c] * s[c]

with a number r of 16 bits drawn for each position (row by row), timestep and channel, in this order, from the layer's
register (`polyspike.spec.lfsr`), whose seed is its state before the first of them; for every input the same numbers.

A layer without a neuron emits nothing: its membranes after the last timestep are the network's output.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import NetworkError
from polyspike.spec.lfsr import Lfsr

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class CountRange:
    """The spike counts a node may emit in one timestep: -n_neg .. n_pos, in `bits` bits.

    Any split with n_pos >= 1, n_neg <= 2^(bits - 1) and n_neg + n_pos < 2^bits is legal: counts travel in two's
    complement cut to `bits`, and a code above n_pos is negative.
    """

    n_neg: int
    n_pos: int
    bits: int

    @property
    def largest(self) -> int:
        """Largest magnitude."""
        return max(self.n_neg, self.n_pos)


@dataclasses.dataclass(frozen=True, eq=False)
class Input:
    """The network's input: 8-bit (or 4-bit) counts, of an image or of events.

    An image of shape `image`, pixels in 0..1, becomes counts by `round((pixel - mean) / std / scale)`, clipped to the
    range, and is then reshaped to `shape` (channels first; differs from `image` only where the network flattens its
    input at once). `mean` and `std` have one entry a channel of the image. The counts are the same at every timestep.

    Events are counts already: `bins` maps of shape `image`, one for each timestep of the network, clipped to the range.
    Their `mean` is 0 and their `std` 1.
    """

    name: str
    shape: Shape
    counts: CountRange
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image: Shape
    #: Maps of events, as many as the network has timesteps; None for an image.
    bins: int | None = None

    @property
    def item(self) -> tuple[int, ...]:
        """Shape of what the network takes for one inference: (channels, height, width), with events bins before."""
        return self.image if self.bins is None else (self.bins, *self.image)


@dataclasses.dataclass(frozen=True, eq=False)
class Synapse:
    """One source of a layer's input: a convolution, linear map, shortcut or sum pooling, all in one form.

    `weight` is int8, [out channels, in channels / groups, kh, kw], in -127..127. (kh, kw) is `window`, or (1, 1): then
    all taps of the window share the weights, which is a sum over the window that is weighted afterwards.
    A linear layer has window = the whole map. A depthwise convolution has groups = in channels = out channels, and so
    have the identity shortcut (window 1 x 1) and sum pooling (weights all 1).
    """

    source: str
    weight: NDArray[np.int8]
    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    #: every product is multiplied by 2^shift, 0..7
    shift: int = 0

    @property
    def shared(self) -> bool:
        """Whether all taps of a window larger than 1 x 1 share their weights."""
        return self.window != (1, 1) and self.weight.shape[2:] == (1, 1)

    @property
    def depthwise(self) -> bool:
        """Whether output channel c sees input channel c and no other."""
        return bool(self.weight.shape[1] == 1) and self.groups == self.weight.shape[0]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the output for a source of that size."""
        (kh, kw), (sy, sx), (py, px) = self.window, self.stride, self.padding
        return (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Neuron:
    """Polarity multi-spike neurons, one a channel. `theta`, `v0` and `theta_neg` are int32 [channels].

    Without `theta_neg` it is 0: every membrane below 0 may emit a negative spike. With `lfsr` they are probabilistic.
    """

    counts: CountRange
    theta: NDArray[np.int32]
    v0: NDArray[np.int32]
    rectified: bool = False
    theta_neg: NDArray[np.int32] | None = None
    lfsr: Lfsr | None = None

    @property
    def negative_threshold(self) -> NDArray[np.int32]:
        """`theta_neg`, or what it is without."""
        return np.zeros_like(self.theta) if self.theta_neg is None else self.theta_neg


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer of spiking neurons, or, with `neuron` None, of output membranes.

    `bias` is int32 [channels], added at every timestep. `scale` is float64 [channels]: what one unit of output is
    worth in the float network. A spiking layer's activation is `scale * mean over timesteps of its counts`; a membrane
    layer's is `scale * membrane / timesteps`.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapse, ...]
    bias: NDArray[np.int32]
    neuron: Neuron | None
    scale: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPool:
    """Largest count in each window; exact at one timestep only. Padding never wins."""

    name: str
    shape: Shape
    source: str
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


Node = Input | Layer | MaxPool


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """An integer network: first node the input, last node a membrane layer, each source before its user."""

    name: str
    timesteps: int
    nodes: tuple[Node, ...]
    classes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise NetworkError(
            f"network {self.name!r} has no layer {name!r}; it has {', '.join(n.name for n in self.nodes)}"
        )

    @property
    def input(self) -> Input:
        """The input node."""
        node = self.nodes[0]
        assert isinstance(node, Input)
        return node

    @property
    def output(self) -> Layer:
        """The layer whose membranes are the result."""
        node = self.nodes[-1]
        assert isinstance(node, Layer)
        return node

    def counts(self, name: str) -> CountRange:
        """Return the count range that the node `name` emits (max pooling passes its source's on)."""
        node = self[name]
        while isinstance(node, MaxPool):
            node = self[node.source]
        if isinstance(node, Input):
            return node.counts
        if node.neuron is None:
            raise NetworkError(f"layer {name!r} emits no spikes: it has output membranes")
        return node.neuron.counts

    def replace(self, **changes: Any) -> "Network":
        """Return a copy with some fields changed, e.g. `timesteps`."""
        return dataclasses.replace(self, **changes)
