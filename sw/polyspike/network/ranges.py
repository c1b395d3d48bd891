"""The no-overflow proof: bounds on every membrane, from the actual integers."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .graph import Layer, Network


@dataclasses.dataclass(frozen=True, eq=False)
class MembraneRange:
    """Bounds of one layer, int64 [channels] each.

    `partial` bounds the magnitude of any partial sum of the products of one timestep, added in any order, with the bias
    on top. `low` and `high` bound the membrane before firing, over all timesteps. `reach` is the largest magnitude of
    anything the definition of firing computes, n_neg * theta on top of the membrane included.
    """

    partial: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    reach: NDArray[np.int64]

    def bits(self) -> NDArray[np.int64]:
        """Return the width in bits, sign included, that each channel needs."""
        return np.array([int(value).bit_length() + 1 for value in self.reach], dtype=np.int64)


def membrane_range(network: Network, layer: Layer) -> MembraneRange:
    """Bound the membranes of `layer`, given the count ranges of its sources and the network's timesteps."""
    channels = layer.shape[0]
    partial = np.zeros(channels, np.int64)
    up = np.zeros(channels, np.int64)
    down = np.zeros(channels, np.int64)
    for synapse in layer.synapses:
        counts = network.counts(synapse.source)
        weight = synapse.weight.astype(np.int64) << synapse.shift
        taps = synapse.window[0] * synapse.window[1] if synapse.shared else 1
        axes = (1, 2, 3)
        partial += taps * np.abs(weight).sum(axes) * counts.largest
        positive, negative = np.maximum(weight, 0).sum(axes), np.maximum(-weight, 0).sum(axes)
        up += taps * (positive * counts.n_pos + negative * counts.n_neg)
        down -= taps * (positive * counts.n_neg + negative * counts.n_pos)
    bias = layer.bias.astype(np.int64)
    partial = partial + np.abs(bias)
    # A window may hang over the border, where taps are missing: zero is always a possible contribution, and is in
    # [down, up] already.
    steps = network.timesteps
    if layer.neuron is None:
        low = np.minimum(0, steps * (down + bias))
        high = np.maximum(0, steps * (up + bias))
        return MembraneRange(partial, low, high, np.maximum(partial, np.maximum(high, -low)))
    neuron = layer.neuron
    theta = neuron.theta.astype(np.int64)
    take_back = np.zeros_like(theta) if neuron.rectified else neuron.counts.n_neg * theta
    theta_neg = neuron.negative_threshold.astype(np.int64)
    rest_low = rest_high = neuron.v0.astype(np.int64)
    low, high = np.minimum(rest_low, 0), np.maximum(rest_high, 0)
    if neuron.lfsr is not None:
        low, high = np.minimum(low, rest_low + steps * (down + bias)), np.maximum(high, rest_high + steps * (up + bias))
        # Firing takes theta from what is above 0.
        low = np.minimum(low, 1 - theta)
        return MembraneRange(partial, low, high, np.maximum(partial, np.maximum(high, -low)))
    for _ in range(steps):
        before_low, before_high = rest_low + down + bias, rest_high + up + bias
        low, high = np.minimum(low, before_low), np.maximum(high, before_high)
        # What may emit a negative spike is below zero by less than before; what stays silent is not below -theta_neg.
        rest_low = np.minimum(np.minimum(0, before_low + take_back), np.maximum(before_low, -theta_neg))
        rest_high = np.maximum(theta - 1, before_high - neuron.counts.n_pos * theta)
    reach = np.maximum(partial, np.maximum(-low, high + neuron.counts.n_neg * theta))
    return MembraneRange(partial, low, high, reach)


def membrane_ranges(network: Network) -> dict[str, MembraneRange]:
    """Bound the membranes of every layer, by name."""
    return {node.name: membrane_range(network, node) for node in network if isinstance(node, Layer)}
