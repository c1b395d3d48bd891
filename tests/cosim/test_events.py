"""The simulated gateware against the golden model where the input is events, another map at every timestep."""

import pytest

from polyspike.compiler import compile
from polyspike.cosim.random_networks import random_images, random_network, with_events
from polyspike.driver import compare, open_device


@pytest.mark.parametrize("name", ["tiny", "large"])
def test_no_integer_differs(name: str) -> None:
    compared = 0
    with open_device("sim", name) as device, open_device("golden", name) as golden:
        assert device.identity.configuration is not None
        for network, seed in [(with_events(random_network(seed)), seed) for seed in range(8)]:
            if network.timesteps == 1:
                continue
            events = random_images(network, seed, 2)
            program = compile(network, device.identity.configuration)
            for each in (device, golden):
                each.load(program)
            expected = golden.infer(events, trace=True)
            comparison = compare(device.infer(events, trace=True), expected)
            assert comparison.differing == 0, f"seed {seed}: {comparison}"
            # While one recording is computed, the next one is sent.
            assert (device.infer(events).membranes == expected.membranes).all()
            compared += comparison.compared
    assert compared > 10_000
