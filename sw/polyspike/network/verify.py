"""The verifier: what every integer network must satisfy before anything executes or compiles it."""

import numpy as np

from polyspike.spec import NetworkError
from polyspike.spec.lfsr import DRAW_BITS, WIDTH

from .graph import CountRange, Input, Layer, MaxPool, Network, Neuron, Shape, Synapse


def verify(network: Network) -> Network:
    """Check every rule of the IR and return the network unchanged.

    Raises
    ------
    NetworkError
        A rule is broken; the message names the network, the layer, what is wrong and what would be right.
    """

    def need(condition: bool, where: str, message: str) -> None:
        if not condition:
            raise NetworkError(f"network {network.name!r}, {where}: {message}")

    def check_counts(where: str, counts: CountRange) -> None:
        need(counts.bits in (4, 8), where, f"counts have {counts.bits} bits, but 4 or 8 are possible")
        need(
            counts.n_neg >= 0 and counts.n_pos >= 1 and counts.n_neg + counts.n_pos < 1 << counts.bits,
            where,
            f"counts from -{counts.n_neg} to {counts.n_pos} do not fit {counts.bits} bits "
            f"(n_neg >= 0, n_pos >= 1, n_neg + n_pos <= {(1 << counts.bits) - 1})",
        )
        need(
            counts.n_neg <= 1 << (counts.bits - 1),
            where,
            f"n_neg = {counts.n_neg} is above {1 << (counts.bits - 1)}",
        )

    need(1 <= network.timesteps <= 255, "timesteps", f"{network.timesteps} is not from 1 to 255")
    need(len(network.nodes) >= 2, "nodes", "there must be an input and at least one layer")
    need(isinstance(network.nodes[0], Input), "first node", "must be the input")
    last = network.nodes[-1]
    need(
        isinstance(last, Layer) and last.neuron is None,
        "last node",
        "must be a layer of output membranes (no neuron)",
    )
    shapes: dict[str, Shape] = {}
    for index, node in enumerate(network.nodes):
        where = f"layer {node.name!r}"
        need(node.name not in shapes, where, "the name is used twice")
        need(all(size >= 1 for size in node.shape), where, f"shape {node.shape} has a size below 1")
        if isinstance(node, Input):
            need(index == 0, where, "an input can only be the first node")
            check_counts(where, node.counts)
            need(node.scale > 0, where, f"scale is {node.scale}, but must be positive")
            need(
                int(np.prod(node.image)) == int(np.prod(node.shape)),
                where,
                f"image {node.image} does not reshape to {node.shape}",
            )
            need(
                len(node.mean) == len(node.std) == node.image[0],
                where,
                f"mean and std need one entry for each of {node.image[0]} image channels",
            )
            need(all(value > 0 for value in node.std), where, f"std is {node.std}, but every entry must be positive")
            if node.bins is not None:
                need(
                    node.bins == network.timesteps,
                    where,
                    f"takes {node.bins} bins of events, but the network has {network.timesteps} timesteps; "
                    "each timestep needs one",
                )
                need(
                    set(node.mean) == {0.0} and set(node.std) == {1.0},
                    where,
                    f"events are counts as they are, with mean 0 and std 1, not {node.mean} and {node.std}",
                )
        elif isinstance(node, MaxPool):
            need(
                network.timesteps == 1,
                where,
                f"max pooling of spike counts is exact at T = 1 only, and the network has T = {network.timesteps}; "
                "use T = 1, or average pooling",
            )
            need(node.source in shapes, where, f"source {node.source!r} does not stand before it")
            channels, height, width = shapes[node.source]
            for axis, size in enumerate((height, width)):
                kernel, stride, padding = node.window[axis], node.stride[axis], node.padding[axis]
                need(
                    kernel >= 1 and stride >= 1 and 0 <= 2 * padding <= kernel,
                    where,
                    "window, stride and padding do not fit together",
                )
                need(
                    node.shape[1 + axis] == (size + 2 * padding - kernel) // stride + 1,
                    where,
                    f"shape {node.shape} is not what pooling {shapes[node.source]} gives",
                )
            need(node.shape[0] == channels, where, f"has {node.shape[0]} channels, its source {channels}")
        else:
            _check_layer(network, node, shapes, need, check_counts)
            need(
                node.neuron is not None or index == len(network.nodes) - 1,
                where,
                "only the last layer can have output membranes instead of neurons",
            )
        shapes[node.name] = node.shape
    return network


def _check_layer(network: Network, layer: Layer, shapes, need, check_counts) -> None:  # type: ignore[no-untyped-def]
    where = f"layer {layer.name!r}"
    channels, height, width = layer.shape
    need(len(layer.synapses) >= 1, where, "has no synapses")
    for synapse in layer.synapses:
        need(synapse.source in shapes, where, f"source {synapse.source!r} does not stand before it")
        _check_synapse(layer, synapse, shapes[synapse.source], need)
        need(
            synapse.output_size(*shapes[synapse.source][1:]) == (height, width),
            where,
            f"synapse from {synapse.source!r} gives {synapse.output_size(*shapes[synapse.source][1:])} positions, "
            f"the layer has {(height, width)}",
        )
    need(
        layer.bias.dtype == np.int32 and layer.bias.shape == (channels,),
        where,
        f"bias must be int32 [{channels}]",
    )
    need(
        layer.scale.shape == (channels,) and bool((layer.scale > 0).all()),
        where,
        f"scale must be positive, [{channels}]",
    )
    if layer.neuron is not None:
        check_counts(where, layer.neuron.counts)
        for name in ("theta", "v0", "theta_neg"):
            value = getattr(layer.neuron, name)
            if value is None and name == "theta_neg":
                continue
            need(
                value.dtype == np.int32 and value.shape == (channels,),
                where,
                f"{name} must be int32 [{channels}]",
            )
        need(bool((layer.neuron.theta >= 1).all()), where, "every theta must be at least 1")
        if layer.neuron.theta_neg is not None:
            need(bool((layer.neuron.theta_neg >= 0).all()), where, "every theta_neg must be at least 0")
        if layer.neuron.lfsr is not None:
            _check_probabilistic(where, layer.neuron, need)


def _check_probabilistic(where: str, neuron: Neuron, need) -> None:  # type: ignore[no-untyped-def]
    assert neuron.lfsr is not None
    need(
        neuron.counts == CountRange(0, 1, 4) and not neuron.rectified and neuron.theta_neg is None,
        where,
        f"probabilistic neurons emit 0 or 1 spike, with 4 bits, and have no negative threshold; counts are "
        f"{neuron.counts}, rectified is {neuron.rectified}",
    )
    seed, width = neuron.lfsr.seed, neuron.lfsr.width
    need(
        DRAW_BITS <= width <= WIDTH,
        where,
        f"the register of its random numbers has {width} bits, but must have {DRAW_BITS} to {WIDTH}",
    )
    need(0 < seed < 1 << width, where, f"the seed of its random numbers is {seed}, not from 1 to {(1 << width) - 1}")


def _check_synapse(layer: Layer, synapse: Synapse, source: Shape, need) -> None:  # type: ignore[no-untyped-def]
    where = f"layer {layer.name!r}, synapse from {synapse.source!r}"
    weight, groups = synapse.weight, synapse.groups
    need(weight.dtype == np.int8 and weight.ndim == 4, where, "weight must be int8 with 4 axes")
    need(bool((weight != -128).all()), where, "weights are symmetric, -127 to 127; one is -128")
    need(
        weight.shape[0] == layer.shape[0],
        where,
        f"weight has {weight.shape[0]} output channels, the layer {layer.shape[0]}",
    )
    need(
        groups >= 1 and source[0] % groups == 0 and layer.shape[0] % groups == 0,
        where,
        f"{groups} groups do not divide the channels",
    )
    need(
        weight.shape[1] == source[0] // groups,
        where,
        f"weight has {weight.shape[1]} input channels a group, the source {source[0] // groups}",
    )
    need(
        weight.shape[2:] in (synapse.window, (1, 1)),
        where,
        f"weight {weight.shape} does not fit the window {synapse.window}",
    )
    need(
        min(synapse.window) >= 1 and min(synapse.stride) >= 1 and min(synapse.padding) >= 0,
        where,
        "window and stride must be at least 1, padding 0",
    )
    need(0 <= synapse.shift <= 7, where, f"shift is {synapse.shift}, not from 0 to 7")
