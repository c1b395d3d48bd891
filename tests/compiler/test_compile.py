"""Compiled programs on the instruction-set simulator equal an independent evaluation of their network."""

import numpy as np
import pytest

from compiler.host import execute
from compiler.oracle import evaluate
from polyspike.compiler import compile
from polyspike.cosim.random_networks import random_images, random_network
from polyspike.network import quantize
from polyspike.spec import LARGE, SMALL, TINY


def check(network, configuration, seed, batch=1):
    """Assert that every count and membrane agrees, and return the program."""
    inputs = quantize(network.input, random_images(network, seed, batch))
    program = compile(network, configuration)
    membranes, counts = execute(program, inputs)
    for image in range(batch):
        wanted, maps = evaluate(network, inputs[image])
        for name, found in counts[image].items():
            assert np.array_equal(found, maps[name]), f"{network.name} on {configuration.name}: layer {name} differs"
        assert np.array_equal(membranes[image], wanted), f"{network.name} on {configuration.name}: membranes differ"
    return program


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE], ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(200))
def test_random_networks(seed, configuration):
    check(random_network(seed), configuration, seed)
