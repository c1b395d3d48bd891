"""The float network as layers that a spiking network can have: what tracing makes, and what quantization starts from.

It mirrors the integer network of `polyspike.network`: an input, layers whose membranes sum over terms (one a
synapse), and max pooling. Shapes are (channels, height, width). Batch norm is folded, dropout gone.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int, int]
Pair = tuple[int, int]


class Role(enum.Enum):
    """What becomes of a layer's sum."""

    #: rectified, then emitted as spikes
    RELU = "relu"
    #: emitted as spikes of both polarities
    SIGNED = "signed"
    #: a plain sum over a window, or a plain copy, of one source's counts; emitted as it is
    POOL = "pool"
    #: the membranes are the result
    OUTPUT = "output"


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """One source of a layer: a convolution without bias.

    `weight` is float, [out, in / groups, kh, kw] with (kh, kw) equal to `window`, or (1, 1): then all taps share
    their weights. A `fixed` term (pooling, a shortcut) has pattern weights, which training leaves alone.
    """

    source: str
    weight: Tensor
    window: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    fixed: bool = False

    @property
    def shared(self) -> bool:
        """Whether the taps of a window larger than 1 x 1 share their weights."""
        return self.window != (1, 1) and tuple(self.weight.shape[2:]) == (1, 1)

    @property
    def depthwise(self) -> bool:
        """Whether output channel c sees input channel c and no other."""
        return self.weight.shape[1] == 1 and self.groups == self.weight.shape[0]

    @property
    def taps(self) -> int:
        """Number of taps of the window."""
        return self.window[0] * self.window[1]

    def apply(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the term's sum for x [batch, in, height, width], with other weights if given."""
        if weight is None:
            weight = self.weight
        if self.shared and self.depthwise:
            x = F.avg_pool2d(x, self.window, self.stride, self.padding) * self.taps
            return x * weight.view(-1, 1, 1)
        if self.shared:
            x = F.avg_pool2d(x, self.window, self.stride, self.padding) * self.taps
            return F.conv2d(x, weight, groups=self.groups)
        return F.conv2d(x, weight, None, self.stride, self.padding, groups=self.groups)


@dataclasses.dataclass(frozen=True, eq=False)
class FloatInput:
    """The input. `image` is an image's shape; `shape` differs only where the network flattens its input at once.

    With `events` it is maps of event counts, one a timestep, that the network sees one after the other.
    """

    name: str
    shape: Shape
    image: Shape
    events: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class FloatLayer:
    """A layer: the sum of its terms plus `bias` [channels]. `limit` is where it saturates by design (ReLU6)."""

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    bias: Tensor
    role: Role
    limit: float | None = None

    def activate(self, x: Tensor) -> Tensor:
        """Return the layer's activation for its sum `x`."""
        if self.role is Role.RELU:
            return F.relu(x) if self.limit is None else x.clamp(0, self.limit)
        return x


@dataclasses.dataclass(frozen=True, eq=False)
class FloatMaxPool:
    """Max pooling of one source."""

    name: str
    shape: Shape
    source: str
    window: Pair
    stride: Pair
    padding: Pair

    def apply(self, x: Tensor) -> Tensor:
        """Return the maxima for x [batch, channels, height, width]."""
        return F.max_pool2d(x, self.window, self.stride, self.padding)


FloatNode = FloatInput | FloatLayer | FloatMaxPool


@dataclasses.dataclass(frozen=True, eq=False)
class FloatNetwork:
    """A float network in topological order: the input first, the output layer last."""

    nodes: tuple[FloatNode, ...]

    def __iter__(self) -> Iterator[FloatNode]:
        return iter(self.nodes)

    @property
    def input(self) -> FloatInput:
        """The input node."""
        node = self.nodes[0]
        assert isinstance(node, FloatInput)
        return node

    def on_events(self) -> "FloatNetwork":
        """Return the network with events as its input."""
        return FloatNetwork((dataclasses.replace(self.input, events=True), *self.nodes[1:]))

    @property
    def layers(self) -> tuple[FloatLayer, ...]:
        """Every layer."""
        return tuple(node for node in self.nodes if isinstance(node, FloatLayer))

    def last_use(self) -> dict[str, str]:
        """Return, for each node, the last node that reads it: after that its activations can go."""
        uses: dict[str, str] = {}
        for node in self.nodes:
            for source in sources(node):
                uses[source] = node.name
        return uses

    def sums(self, node: FloatLayer, values: Mapping[str, Tensor]) -> Tensor:
        """Return the layer's sum, given the activations of its sources."""
        total = sum((term.apply(values[term.source]) for term in node.terms), start=torch.zeros(()))
        return total + node.bias.view(-1, 1, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return the output [batch, outputs] for x [batch, *input shape]; for events, the mean over their bins."""
        if not self.input.events:
            return self.run(x).flatten(1)
        return self.run(x.flatten(0, 1)).view(*x.shape[:2], -1).mean(1)

    @torch.no_grad()
    def all_sums(self, x: Tensor) -> Iterator[tuple[FloatLayer, Tensor]]:
        """Yield every layer with its sums [batch, channels, height, width] for x [batch, *input shape], in order.

        Those of the last layer are the output.
        """
        for node, sums, _ in self._walk(x):
            if isinstance(node, FloatLayer):
                yield node, sums

    @torch.no_grad()
    def run(self, x: Tensor, observe: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """Return the output [batch, channels, height, width] for x [batch, *input shape]; `observe` sees them all."""
        result = x
        for node, _, result in self._walk(x):
            if observe is not None:
                observe(node.name, result)
        return result

    def _walk(self, x: Tensor) -> Iterator[tuple[FloatNode, Tensor, Tensor]]:
        """Yield every node but the input with its sums and its activations; max pooling's sums are its activations."""
        values = {self.input.name: x}
        uses = self.last_use()
        for node in self.nodes[1:]:
            if isinstance(node, FloatLayer):
                sums = self.sums(node, values)
                values[node.name] = node.activate(sums)
            elif isinstance(node, FloatMaxPool):
                sums = values[node.name] = node.apply(values[node.source])
            yield node, sums, values[node.name]
            for source in sources(node):
                if uses[source] == node.name:
                    del values[source]


def sources(node: FloatNode) -> tuple[str, ...]:
    """Return the names a node reads, each once."""
    if isinstance(node, FloatInput):
        return ()
    if isinstance(node, FloatMaxPool):
        return (node.source,)
    return tuple(dict.fromkeys(term.source for term in node.terms))
