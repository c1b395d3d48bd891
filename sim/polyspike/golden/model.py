"""Execution of the integer network IR (`polyspike.network.graph`, normative) on any batch and any number of timesteps.

Counts and membranes are integers held in floating point, because that is what PyTorch convolves quickly. It is exact,
not approximate: a layer is computed in float32 only when every number that can occur in it, partial sums in any order
included, is an integer of magnitude below 2^24, and in float64 (2^53) otherwise. The bounds come from
`polyspike.network.membrane_ranges`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from polyspike.network import (
    CountRange,
    Input,
    Layer,
    MaxPool,
    MembraneRange,
    Network,
    draws,
    membrane_ranges,
    verify,
)
from polyspike.spec import InputError, NetworkError
from polyspike.spec.lfsr import DRAW_BITS

#: Integers up to this magnitude are exact in float32.
FLOAT32_EXACT = 1 << 24

#: Membranes are handed out as int32.
MEMBRANE_LIMIT = 1 << 31

#: Values of the largest map that are in flight at once; keeps a chunk's maps near the caches.
CHUNK_VALUES = 1 << 21


@dataclasses.dataclass(frozen=True, eq=False)
class GoldenResult:
    """What a network computed.

    `membranes` is int32 [N, C, H, W], the output layer's membranes after the last timestep. `counts` holds, when they
    were observed, the spike counts of every node but the output layer, int16 [N, T, C, H, W] by name; otherwise it is
    empty.
    """

    membranes: NDArray[np.int32]
    counts: dict[str, NDArray[np.int16]]


def run(
    network: Network,
    counts: NDArray[np.integer],
    *,
    timesteps: int | None = None,
    observe: bool = False,
    chunk: int | None = None,
    progress: bool = False,
) -> GoldenResult:
    """Execute a network.

    Parameters
    ----------
    network
        The integer network; it is verified.
    counts
        Input counts, any integer type: of images [N, *network.input.shape], and the same ones are applied at every
        timestep; of events [N, T, *network.input.shape].
    timesteps
        Overrides the network's own number of timesteps; not where it takes events.
    observe
        Return every node's counts too.
    chunk
        Images computed at once; by default what keeps the maps small.
    progress
        Show a progress bar over the images.

    Raises
    ------
    NetworkError
        The network is not sound, has max pooling at more than one timestep, or has membranes beyond 32 bits.
    InputError
        The counts have the wrong type or shape, or leave the input's range.
    """
    if timesteps is not None:
        network = network.replace(timesteps=timesteps)
    model = _Model(verify(network))
    counts = _checked(network.input, counts)
    if chunk is None:
        per_image = network.timesteps * max(int(np.prod(node.shape)) for node in network)
        chunk = min(256, max(1, CHUNK_VALUES // per_image))
    membranes = np.zeros((len(counts), *network.output.shape), np.int32)
    observed: dict[str, NDArray[np.int16]] = {}
    if observe:
        observed = {
            node.name: np.zeros((len(counts), network.timesteps, *node.shape), np.int16) for node in network.nodes[:-1]
        }
    with (
        torch.inference_mode(),
        _exact_convolutions(),
        tqdm(total=len(counts), unit="image", disable=not progress) as bar,
    ):
        for start in range(0, len(counts), chunk):
            part = slice(start, min(start + chunk, len(counts)))
            maps, result = model.execute(torch.from_numpy(counts[part]))
            membranes[part] = result.numpy()
            for name, array in observed.items():
                array[part] = maps[name].numpy()
            bar.update(part.stop - start)
    return GoldenResult(membranes, observed)


def _checked(node: Input, counts: NDArray[np.integer]) -> NDArray[np.int16]:
    """Return sound input counts as [N, T or 1, C, H, W]."""
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer):
        raise InputError(f"input counts must be integers, not {counts.dtype}; polyspike.network.quantize makes them")
    shape = node.shape if node.bins is None else (node.bins, *node.shape)
    if counts.shape[1:] != shape:
        raise InputError(
            f"input counts have shape {counts.shape}, but the network takes [batch, {', '.join(map(str, shape))}]"
        )
    low, high = -node.counts.n_neg, node.counts.n_pos
    if counts.size and (counts.min() < low or counts.max() > high):
        raise InputError(f"input counts run from {counts.min()} to {counts.max()}, but the input takes {low} to {high}")
    if node.bins is None:
        counts = counts[:, None]
    return np.ascontiguousarray(counts, dtype=np.int16)


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Keep float32 convolutions plain: no bfloat16 or TF32, and no NNPACK, whose Winograd transforms round."""
    onednn: Any = torch.backends.mkldnn  # `conv` is missing from its type stubs
    before = onednn.conv.fp32_precision
    onednn.conv.fp32_precision = "ieee"
    try:
        with torch.backends.nnpack.flags(enabled=False):
            yield
    finally:
        onednn.conv.fp32_precision = before


class _Model:
    """A network whose weights have become tensors of the type that is exact for each layer."""

    def __init__(self, network: Network) -> None:
        self.network = network
        ranges = membrane_ranges(network)
        self.layers = {
            node.name: _LayerModel(node, network, ranges[node.name]) for node in network if isinstance(node, Layer)
        }

    def execute(self, counts: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Take int16 counts [n, T or 1, C, H, W]; return every map of that form by name, and the output membranes.

        A map that is the same at every timestep, as an image is, has one entry on its time axis.
        """
        maps: dict[str, Tensor] = {}
        membranes = counts
        for node in self.network:
            if isinstance(node, Input):
                maps[node.name] = counts.float()
            elif isinstance(node, MaxPool):
                maps[node.name] = _over_time(_pool, maps[node.source], node)
            else:
                result = self.layers[node.name].execute(maps, self.network.timesteps)
                if node.neuron is None:
                    membranes = result
                else:
                    maps[node.name] = result
        return maps, membranes


def _over_time(function: Any, counts: Tensor, *arguments: Any) -> Tensor:
    """Apply a function of [n, C, H, W] to [n, T, C, H, W], all timesteps at once."""
    n, t = counts.shape[:2]
    # Channels last is what oneDNN convolves fastest.
    flat = counts.reshape(n * t, *counts.shape[2:]).contiguous(memory_format=torch.channels_last)
    result = function(flat, *arguments)
    return result.reshape(n, t, *result.shape[1:])  # type: ignore[no-any-return]


def _pool(counts: Tensor, node: MaxPool) -> Tensor:
    # PyTorch pads with minus infinity, so padding never wins.
    return F.max_pool2d(counts, node.window, node.stride, node.padding)


class _LayerModel:
    def __init__(self, layer: Layer, network: Network, bounds: MembraneRange) -> None:
        self.layer = layer
        # `partial` covers the bias and every partial sum; see `_fire` for why theta counts.
        membranes = np.maximum(-bounds.low, bounds.high)
        if layer.neuron is not None:
            membranes = membranes + layer.neuron.theta
        largest = int(max(bounds.partial.max(), membranes.max()))
        if largest >= MEMBRANE_LIMIT:
            raise NetworkError(
                f"network {network.name!r}, layer {layer.name!r}: membranes reach {largest}, which needs "
                f"{largest.bit_length() + 1} bits; 32 is the most"
            )
        self.dtype = torch.float32 if largest < FLOAT32_EXACT else torch.float64
        self.weights = []
        for synapse in layer.synapses:
            weight = torch.from_numpy(synapse.weight.copy()).to(self.dtype) * (1 << synapse.shift)
            weight = weight.expand(*weight.shape[:2], *synapse.window)
            self.weights.append(weight.contiguous(memory_format=torch.channels_last))
        self.bias = self._per_channel(layer.bias)
        if layer.neuron is not None:
            self.theta = self._per_channel(layer.neuron.theta)
            self.v0 = self._per_channel(layer.neuron.v0)
            theta_neg = layer.neuron.theta_neg
            self.theta_neg = None if theta_neg is None else self._per_channel(theta_neg)
            if layer.neuron.lfsr is not None:
                numbers = draws(layer.neuron.lfsr, layer.shape, network.timesteps)
                self.draws = torch.from_numpy(numbers.astype(np.int64))

    def _per_channel(self, values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.copy()).to(self.dtype)[:, None, None]

    def execute(self, maps: dict[str, Tensor], timesteps: int) -> Tensor:
        """Return counts [n, T, C, H, W], or the membranes [n, C, H, W] of the output layer."""
        total: Tensor | None = None
        for index, synapse in enumerate(self.layer.synapses):
            part = _over_time(self._convolve, maps[synapse.source], index)
            # A map that is constant in time broadcasts over the others' timesteps.
            total = part if total is None else total + part
        assert total is not None
        total = total + self.bias
        inputs = [total[:, t if total.shape[1] > 1 else 0] for t in range(timesteps)]
        if self.layer.neuron is None:
            return sum(inputs[1:], start=inputs[0]).to(torch.int32)
        neuron = self.layer.neuron
        if neuron.lfsr is not None:
            return self._fire_at_random(sum(inputs, start=self.v0))
        membrane = self.v0.expand_as(inputs[0])
        emitted = torch.zeros_like(inputs[0])
        spikes = []
        for current in inputs:
            membrane = membrane + current
            count = _fire(membrane, self.theta, neuron.counts, emitted if neuron.rectified else None)
            if self.theta_neg is not None:
                count = count.masked_fill((membrane < 0) & (membrane >= -self.theta_neg), 0)
            membrane = membrane - self.theta * count
            emitted = emitted + count
            spikes.append(count.float())
        return torch.stack(spikes, dim=1)

    def _fire_at_random(self, membrane: Tensor) -> Tensor:
        """Return counts [n, T, C, H, W] for membranes [n, C, H, W] in which all timesteps are added up."""
        left, theta = membrane.to(torch.int64), self.theta.to(torch.int64)
        spikes = []
        for t, numbers in enumerate(self.draws):
            fires = (left > 0) & (left << DRAW_BITS > numbers * theta * (len(self.draws) - t))
            left = left - theta * fires
            spikes.append(fires.float())
        return torch.stack(spikes, dim=1)

    def _convolve(self, counts: Tensor, index: int) -> Tensor:
        synapse = self.layer.synapses[index]
        return F.conv2d(
            counts.to(self.dtype),
            self.weights[index],
            None,
            synapse.stride,
            synapse.padding,
            groups=synapse.groups,
        )


def _fire(membrane: Tensor, theta: Tensor, counts: CountRange, emitted: Tensor | None) -> Tensor:
    """Return clip(floor(v / theta), -lo, n_pos), exactly.

    The quotient of two integers is rounded once. If it is no integer, it is at least 1 / theta away from the next
    integer k, and that is more than half a unit in the last place of k as long as theta * k, which is at most
    |v| + theta, is below 2^24 in float32. So rounding never lifts a quotient to an integer that it does not reach, and
    the floor is right.
    """
    quotient = torch.floor(membrane / theta)
    if emitted is None:
        return quotient.clamp_(-counts.n_neg, counts.n_pos)
    lowest = -emitted.clamp(max=counts.n_neg)
    return torch.maximum(quotient.clamp_(max=counts.n_pos), lowest)
