"""The arithmetic of a network, neuron by neuron, with Python integers and plain loops: slow, obvious, independent."""

import functools

import numpy as np

from polyspike.network import Input, Layer, MaxPool, Network
from polyspike.spec.lfsr import Lfsr


def execute(network: Network, image: np.ndarray, timesteps: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Take input counts, an image's [C, H, W] or events' [T, C, H, W]; return counts [T, C, H, W] and membranes."""
    maps: dict[str, np.ndarray] = {}
    membranes = image
    for node in network:
        if isinstance(node, Input):
            maps[node.name] = (image if image.ndim == 4 else np.stack([image] * timesteps)).astype(int)
        elif isinstance(node, MaxPool):
            maps[node.name] = np.stack([max_pool(node, frame) for frame in maps[node.source]])
        else:
            result = np.zeros((timesteps, *node.shape), int)
            membranes = np.zeros(node.shape, int)
            for position in np.ndindex(node.shape):
                counts, membrane = neuron(network, node, position, maps, timesteps)
                result[(slice(None), *position)] = counts
                membranes[position] = membrane
            if node.neuron is not None:
                maps[node.name] = result
    return maps, membranes


def neuron(
    network: Network, layer: Layer, position: tuple[int, ...], maps: dict[str, np.ndarray], timesteps: int
) -> tuple[list[int], int]:
    channel, y, x = position
    membrane = int(layer.neuron.v0[channel]) if layer.neuron is not None else 0
    emitted = 0
    counts = []
    for t in range(timesteps):
        for synapse in layer.synapses:
            source = maps[synapse.source][t]
            inputs_a_group = source.shape[0] // synapse.groups
            group = channel // (layer.shape[0] // synapse.groups)
            for i in range(inputs_a_group):
                for ky in range(synapse.window[0]):
                    for kx in range(synapse.window[1]):
                        iy = y * synapse.stride[0] - synapse.padding[0] + ky
                        ix = x * synapse.stride[1] - synapse.padding[1] + kx
                        if 0 <= iy < source.shape[1] and 0 <= ix < source.shape[2]:
                            tap = (0, 0) if synapse.weight.shape[2:] == (1, 1) else (ky, kx)
                            weight = int(synapse.weight[(channel, i, *tap)])
                            count = int(source[group * inputs_a_group + i, iy, ix])
                            membrane += weight * count * 2**synapse.shift
        membrane += int(layer.bias[channel])
        if layer.neuron is not None and layer.neuron.lfsr is not None:
            continue
        if layer.neuron is not None:
            theta = int(layer.neuron.theta[channel])
            allowed = layer.neuron.counts.n_neg
            if layer.neuron.rectified:
                allowed = min(allowed, emitted)
            if layer.neuron.theta_neg is not None and -layer.neuron.theta_neg[channel] <= membrane < 0:
                allowed = 0
            count = max(-allowed, min(layer.neuron.counts.n_pos, membrane // theta))
            membrane -= theta * count
            emitted += count
            counts.append(count)
        else:
            counts.append(0)
    if layer.neuron is not None and layer.neuron.lfsr is not None:
        return fire_at_random(layer, position, membrane, timesteps)
    return counts, membrane


def fire_at_random(layer: Layer, position: tuple[int, ...], membrane: int, timesteps: int) -> tuple[list[int], int]:
    channel, y, x = position
    channels, height, width = layer.shape
    numbers = drawn(layer.neuron.lfsr, height * width * timesteps * channels)
    theta = int(layer.neuron.theta[channel])
    counts = []
    for t in range(timesteps):
        r = numbers[((y * width + x) * timesteps + t) * channels + channel]
        counts.append(int(membrane > 0 and membrane * 2**16 > r * theta * (timesteps - t)))
        membrane -= theta * counts[-1]
    return counts, membrane


@functools.cache
def drawn(lfsr: Lfsr, number: int) -> list[int]:
    state, numbers = lfsr.seed, []
    for _ in range(number):
        numbers.append(0)
        for bit in range(16):
            out = state % 2
            state //= 2
            if out:
                numbers[-1] += 2**bit
                state ^= lfsr.taps
    return numbers


def max_pool(node: MaxPool, frame: np.ndarray) -> np.ndarray:
    result = np.zeros(node.shape, int)
    for channel, y, x in np.ndindex(node.shape):
        seen = []
        for ky in range(node.window[0]):
            for kx in range(node.window[1]):
                iy = y * node.stride[0] - node.padding[0] + ky
                ix = x * node.stride[1] - node.padding[1] + kx
                if 0 <= iy < frame.shape[1] and 0 <= ix < frame.shape[2]:
                    seen.append(int(frame[channel, iy, ix]))
        result[channel, y, x] = max(seen)
    return result
