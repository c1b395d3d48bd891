"""A naive execution of integer networks: Python loops over every position and tap, Python integers where it matters."""

import numpy as np
from numpy.typing import NDArray

from golden.naive import fire_at_random
from polyspike.network import Input, MaxPool, Network, Synapse

Counts = NDArray[np.int64]


def run(network: Network, counts: NDArray[np.int16]) -> tuple[Counts, dict[str, Counts]]:
    """Return membranes [number, channels, height, width] and every node's counts [number, timesteps, c, h, w]."""
    results = [_run(network, image.astype(np.int64)) for image in counts]
    names = results[0][1].keys()
    return np.stack([r[0] for r in results]), {name: np.stack([r[1][name] for r in results]) for name in names}


def logits(network: Network, counts: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return logits [number, outputs]."""
    membranes = run(network, counts)[0]
    scale = network.output.scale.reshape(1, -1, 1, 1)
    return (membranes * scale / network.timesteps).reshape(len(counts), -1)


def _run(network: Network, image: Counts) -> tuple[Counts, dict[str, Counts]]:
    seen: dict[str, list[Counts]] = {}
    for node in network:
        if isinstance(node, Input):
            seen[node.name] = [image] * network.timesteps
        elif isinstance(node, MaxPool):
            seen[node.name] = [_maxpool(node, source) for source in seen[node.source]]
        else:
            v = np.zeros(node.shape, np.int64)
            emitted = np.zeros(node.shape, np.int64)
            seen[node.name] = []
            for t in range(network.timesteps):
                if t == 0 and node.neuron is not None:
                    v += node.neuron.v0[:, None, None]
                for synapse in node.synapses:
                    v += _sum(synapse, seen[synapse.source][t], node.shape) << synapse.shift
                v += node.bias[:, None, None]
                if node.neuron is None or node.neuron.lfsr is not None:
                    continue
                s = np.zeros(node.shape, np.int64)
                for at in np.ndindex(*node.shape):
                    low = node.neuron.counts.n_neg
                    if node.neuron.rectified:
                        low = min(low, int(emitted[at]))
                    theta = int(node.neuron.theta[at[0]])
                    if node.neuron.theta_neg is not None and -node.neuron.theta_neg[at[0]] <= v[at] < 0:
                        low = 0
                    s[at] = max(-low, min(node.neuron.counts.n_pos, int(v[at]) // theta))
                    v[at] -= theta * s[at]
                emitted += s
                seen[node.name].append(s)
            if node.neuron is not None and node.neuron.lfsr is not None:
                seen[node.name] = [np.zeros(node.shape, np.int64) for _ in range(network.timesteps)]
                for at in np.ndindex(*node.shape):
                    spikes, _ = fire_at_random(node, at, int(v[at]), network.timesteps)
                    for t, fires in enumerate(spikes):
                        seen[node.name][t][at] = fires
            if node.neuron is None:
                return v, {name: np.stack(steps) for name, steps in seen.items() if steps}
    raise AssertionError("no output layer")


def _sum(synapse: Synapse, source: Counts, shape: tuple[int, int, int]) -> Counts:
    outputs, height, width = shape
    total = np.zeros(shape, np.int64)
    weight = synapse.weight.astype(np.int64)
    inputs = weight.shape[1]
    for c in range(outputs):
        first = c // (outputs // synapse.groups) * inputs
        for y in range(height):
            for x in range(width):
                for ky in range(synapse.window[0]):
                    for kx in range(synapse.window[1]):
                        sy = y * synapse.stride[0] + ky - synapse.padding[0]
                        sx = x * synapse.stride[1] + kx - synapse.padding[1]
                        if 0 <= sy < source.shape[1] and 0 <= sx < source.shape[2]:
                            tap = weight[c, :, 0, 0] if synapse.shared else weight[c, :, ky, kx]
                            total[c, y, x] += tap @ source[first : first + inputs, sy, sx]
    return total


def _maxpool(node: MaxPool, source: Counts) -> Counts:
    result = np.zeros(node.shape, np.int64)
    for c, y, x in np.ndindex(*node.shape):
        found = []
        for ky in range(node.window[0]):
            for kx in range(node.window[1]):
                sy, sx = y * node.stride[0] + ky - node.padding[0], x * node.stride[1] + kx - node.padding[1]
                if 0 <= sy < source.shape[1] and 0 <= sx < source.shape[2]:
                    found.append(source[c, sy, sx])
        result[c, y, x] = max(found)
    return result
