"""What a network's spikes cost: spikes a neuron, synaptic operations, energy by the literature's model.

The literature counts a spike once for every synapse it passes, and an accumulation for that. A count of s is |s|
spikes. The first layer sees pixels, not spikes: its operations are multiply-accumulates, at every timestep where the
network sums them up at every timestep; this project sums them at each, so they are counted T times. Where the input is
events, they are spikes like any others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from polyspike.compiler import Share
from polyspike.network import Input, Layer, MaxPool, Network, Synapse

#: Picojoules of an operation with 32-bit floating-point numbers at 45 nm (Horowitz, ISSCC 2014), as papers use them.
PICOJOULES_PER_ACCUMULATION = 0.9
PICOJOULES_PER_MULTIPLY_ACCUMULATE = 4.6


@dataclasses.dataclass(frozen=True)
class Activity:
    """Averages for one image, all timesteps together.

    `spikes` are those of all spiking neurons, of which there are `neurons`; `synops` is the number of synapses they
    pass. `input_macs` are the first layer's multiply-accumulates; `float_macs` are those of the same network with
    floating-point activations.
    """

    neurons: int
    spikes: float
    synops: float
    input_macs: float
    float_macs: float

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes of a neuron in all timesteps."""
        return self.spikes / max(1, self.neurons)

    @property
    def microjoules(self) -> float:
        """Energy of an image by the 45 nm model: an accumulation a spike and synapse, the input's multiplications."""
        picojoules = PICOJOULES_PER_ACCUMULATION * self.synops + PICOJOULES_PER_MULTIPLY_ACCUMULATE * self.input_macs
        return picojoules * 1e-6

    @property
    def float_microjoules(self) -> float:
        """Energy of an image in the float network by the same model."""
        return PICOJOULES_PER_MULTIPLY_ACCUMULATE * self.float_macs * 1e-6


def activity(network: Network, counts: dict[str, NDArray[np.int16]]) -> Activity:
    """Return a network's activity.

    Parameters
    ----------
    network
        The network that made the counts.
    counts
        Spike counts by node, [images, timesteps, channels, height, width], as `run(..., observe=True)` returns them.
    """
    images = len(counts[network.input.name])
    neurons = 0
    spikes = synops = input_macs = float_macs = 0.0
    for node in network.nodes[1:]:
        if isinstance(node, MaxPool):
            continue
        assert isinstance(node, Layer)
        if node.neuron is not None and not _pools(node):
            neurons += int(np.prod(node.shape))
            spikes += float(np.abs(counts[node.name].astype(np.int64)).sum()) / images
        for synapse in node.synapses:
            source = network[synapse.source]
            ones = torch.ones(1, 1, *source.shape[1:], dtype=torch.float64) * source.shape[0]
            macs = _passed(synapse, ones)
            float_macs += macs
            # Events are spikes; an image's pixels are not.
            if isinstance(source, Input) and source.bins is None:
                input_macs += macs * network.timesteps
            else:
                magnitudes = np.abs(counts[synapse.source].astype(np.int64)).sum((0, 1, 2))
                synops += _passed(synapse, torch.from_numpy(magnitudes).double()[None, None]) / images
    return Activity(neurons, spikes, synops, input_macs, float_macs)


def _pools(layer: Layer) -> bool:
    """Whether a layer passes sums of counts on: its synapse's weights are all 1, one source channel each."""
    synapse = layer.synapses[0]
    return len(layer.synapses) == 1 and synapse.depthwise and bool((synapse.weight == 1).all())


def _passed(synapse: Synapse, magnitudes: Tensor) -> float:
    """Return how many synapses spikes pass; `magnitudes` [1, 1, height, width] are summed over channels."""
    fan_out = int(synapse.weight.shape[0]) // synapse.groups
    window = torch.ones(1, 1, *synapse.window, dtype=torch.float64)
    outputs = F.conv2d(magnitudes, window, None, synapse.stride, synapse.padding)
    return float(outputs.sum()) * fan_out


def densities(counts: Mapping[str, NDArray[np.integer[Any]]]) -> dict[str, Share]:
    """Return the share of each map's counts that are not zero, by name: what the compiler's cost model goes by.

    `counts` are those of a run that was observed or traced, [..., width].
    """
    return {name: _share(each != 0) for name, each in counts.items()}


def _share(marks: NDArray[np.bool_]) -> Share:
    one = float(marks.mean())
    if marks.shape[-1] == 1 or one in (0, 1):
        return Share(one)
    either = float((marks[..., 1:] | marks[..., :-1]).mean())
    return Share(one, 1 - (either - one) / (one * (1 - one)))
