"""A third opinion on the arithmetic: plain loops over positions and taps, written from the definition alone."""

import numpy as np

from polyspike.network import Input, MaxPool


def evaluate(network, counts):
    """Return (membranes [C, H, W], {name: counts [T, C, H, W]}) for one image's input counts [C, H, W]."""
    maps = {}
    for node in network:
        if isinstance(node, Input):
            maps[node.name] = np.stack([np.asarray(counts, np.int64)] * network.timesteps)
        elif isinstance(node, MaxPool):
            maps[node.name] = max_pool(node, maps[node.source])
        else:
            sums = np.zeros((network.timesteps, *node.shape), np.int64)
            for synapse in node.synapses:
                sums += convolve(synapse, maps[synapse.source], node.shape)
            bias = node.bias.astype(np.int64)[:, None, None]
            if node.neuron is None:
                return (sums + bias).sum(0), maps
            maps[node.name] = fire(node.neuron, sums + bias)
    raise AssertionError("the network has no output layer")


def fire(neuron, sums):
    theta = neuron.theta.astype(np.int64)[:, None, None]
    v = np.zeros(sums.shape[1:], np.int64) + neuron.v0.astype(np.int64)[:, None, None]
    spent = np.zeros_like(v)
    out = []
    for step in sums:
        v = v + step
        low = np.minimum(neuron.counts.n_neg, spent) if neuron.rectified else neuron.counts.n_neg
        s = np.minimum(np.maximum(np.floor_divide(v, theta), -low), neuron.counts.n_pos)
        v = v - theta * s
        spent = spent + s
        out.append(s)
    return np.stack(out)


def convolve(synapse, source, shape):
    weight = synapse.weight.astype(np.int64)
    outputs, per_group = weight.shape[0] // synapse.groups, weight.shape[1]
    result = np.zeros((len(source), *shape), np.int64)
    for y in range(shape[1]):
        for x in range(shape[2]):
            for ky in range(synapse.window[0]):
                for kx in range(synapse.window[1]):
                    iy = y * synapse.stride[0] - synapse.padding[0] + ky
                    ix = x * synapse.stride[1] - synapse.padding[1] + kx
                    if not (0 <= iy < source.shape[2] and 0 <= ix < source.shape[3]):
                        continue
                    taps = weight[:, :, 0, 0] if synapse.shared else weight[:, :, ky, kx]
                    for g in range(synapse.groups):
                        seen = source[:, g * per_group : (g + 1) * per_group, iy, ix]
                        mine = slice(g * outputs, (g + 1) * outputs)
                        result[:, mine, y, x] += seen @ taps[mine].T * 2**synapse.shift
    return result


def max_pool(node, source):
    result = np.zeros((len(source), *node.shape), np.int64)
    for y in range(node.shape[1]):
        for x in range(node.shape[2]):
            y0, x0 = y * node.stride[0] - node.padding[0], x * node.stride[1] - node.padding[1]
            rows = slice(max(y0, 0), y0 + node.window[0])
            pixels = slice(max(x0, 0), x0 + node.window[1])
            result[:, :, y, x] = source[:, :, rows, pixels].max(axis=(2, 3))
    return result
