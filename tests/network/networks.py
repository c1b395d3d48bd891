"""A network that uses every kind of node, and a way to change one thing in it."""

import dataclasses
from typing import Any

import numpy as np

from polyspike.network import CountRange, Input, Layer, MaxPool, Network, Neuron, Node, Synapse


def full_network(timesteps: int = 1) -> Network:
    """Input 4 x 6 x 5, a grouped convolution, a pooled branch (at T = 1), a layer of two synapses, an output."""
    rng = np.random.default_rng(11)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape).astype(np.int8)

    def integers(low: int, high: int, size: int) -> np.ndarray:
        return rng.integers(low, high, size).astype(np.int32)

    nodes: list[Node] = [
        Input(
            "image",
            (4, 6, 5),
            CountRange(128, 127, 8),
            0.1 / 3,
            (0.1, 0.2, 0.3, 1 / 3),
            (0.5, 0.7, 1.1, 2.3),
            (4, 6, 5),
        )
    ]
    nodes.append(
        Layer(
            "conv",
            (6, 6, 3),
            (Synapse("image", weight(6, 2, 3, 3), (3, 3), (1, 2), (1, 1), groups=2, shift=1),),
            integers(-900, 900, 6),
            Neuron(CountRange(0, 15, 4), integers(1, 5000, 6), integers(-50, 50, 6)),
            rng.uniform(0.1, 1, 6),
        )
    )
    if timesteps == 1:
        nodes.append(MaxPool("pool", (6, 3, 2), "conv", (2, 2), (2, 2), (0, 1)))
    else:
        ones = np.ones((6, 1, 1, 1), np.int8)
        pooled = Synapse("conv", ones, (2, 2), (2, 2), (0, 1), groups=6)
        nodes.append(
            Layer(
                "pool",
                (6, 3, 2),
                (pooled,),
                integers(0, 1, 6),
                Neuron(CountRange(8, 7, 4), integers(4, 5, 6), integers(2, 3, 6), rectified=True),
                np.ones(6),
            )
        )
    nodes.append(
        Layer(
            "join",
            (6, 3, 2),
            (
                Synapse("pool", weight(6, 6, 1, 1), (1, 1)),
                Synapse("pool", weight(6, 1, 1, 1), (1, 1), groups=6, shift=7),
            ),
            integers(-9, 9, 6),
            Neuron(CountRange(1, 1, 4), integers(1, 500, 6), integers(0, 5, 6), True, integers(0, 700, 6)),
            rng.uniform(0.1, 1, 6),
        )
    )
    nodes.append(
        Layer(
            "output",
            (3, 1, 1),
            (Synapse("join", weight(3, 6, 3, 2), (3, 2)),),
            integers(-9, 9, 3),
            None,
            np.ones(3) / 7,
        )
    )
    return Network("full", timesteps, tuple(nodes), ("one", "two", "three"))


def changed(network: Network, name: str, **changes: Any) -> Network:
    """Return the network with fields of the node `name` replaced; `synapse` and `neuron` may be given as dicts."""
    node = network[name]
    if "synapse" in changes:
        first, *rest = node.synapses
        changes["synapses"] = (dataclasses.replace(first, **changes.pop("synapse")), *rest)
    if isinstance(changes.get("neuron"), dict):
        changes["neuron"] = dataclasses.replace(node.neuron, **changes["neuron"])
    new = dataclasses.replace(node, **changes)
    return network.replace(nodes=tuple(new if each is node else each for each in network))
