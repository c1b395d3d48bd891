"""The integer network: a small typed graph of spiking layers, its verifier and its file format. Needs no torch."""

from .draws import draws
from .file import load, save
from .graph import CountRange, Input, Layer, MaxPool, Network, Neuron, Node, Synapse
from .inputs import quantize
from .ranges import MembraneRange, membrane_range, membrane_ranges
from .verify import verify

__all__ = [
    "CountRange",
    "Input",
    "Layer",
    "MaxPool",
    "MembraneRange",
    "Network",
    "Neuron",
    "Node",
    "Synapse",
    "draws",
    "load",
    "membrane_range",
    "membrane_ranges",
    "quantize",
    "save",
    "verify",
]
