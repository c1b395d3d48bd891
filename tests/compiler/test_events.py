"""Programs of networks whose input is events: another map at every timestep, resident and streamed."""

import dataclasses

import numpy as np
import pytest

from compiler.test_compile import SHRUNKEN
from compiler.test_packing import first_layer
from golden import naive
from polyspike.compiler import compile, load_program, save_program
from polyspike.compiler.program import Upload
from polyspike.cosim.random_networks import random_images, random_network, with_events
from polyspike.driver import compare, open_device
from polyspike.network import quantize
from polyspike.spec import LARGE, TINY, InputError


def check(network, configuration, seed):
    """Assert that every integer agrees with plain loops, traced and not, and return the program."""
    events = random_images(network, seed, 2)
    program = compile(network, configuration)
    with open_device("machine", configuration) as device, open_device("golden", configuration) as golden:
        for each in (device, golden):
            each.load(program)
        found, wanted = device.infer(events, trace=True), golden.infer(events, trace=True)
        assert np.array_equal(device.infer(events).membranes, wanted.membranes)
    comparison = compare(found, wanted)
    assert comparison.differing == 0, f"{network.name} on {configuration.name}: {comparison}"
    maps, membranes = naive.execute(network, quantize(network.input, events)[0], network.timesteps)
    assert np.array_equal(found.membranes[0], membranes.ravel())
    assert all(np.array_equal(found.counts[name][0], counts) for name, counts in maps.items())
    return program


@pytest.mark.parametrize("configuration", [TINY, LARGE, *SHRUNKEN], ids=lambda c: c.name)
def test_random_networks_on_events(configuration):
    first = [TINY, LARGE, *SHRUNKEN].index(configuration)
    for seed in [first] if configuration in SHRUNKEN else range(first, 21, 7):
        network = with_events(random_network(seed))
        program = check(network, configuration, seed)
        if program.resident and program.packing is None:
            uploads = [step.box for step in program.segments[0].steps if isinstance(step, Upload)]
            assert all(box.time == (0, network.timesteps) for box in uploads if box.map == "input")


@pytest.mark.parametrize("configuration", [LARGE, SHRUNKEN[3]], ids=lambda c: c.name)
def test_packed_window_rows(configuration):
    network = with_events(first_layer(2, 3, 8, (1, 2), (1, 1), timesteps=3))
    program = check(network, configuration, 5)
    assert program.packing is not None


def test_order_of_bins_matters():
    """What a device computes is not what it computes of the bins' sum: the same events in another order differ."""
    network = with_events(random_network(4))
    assert network.timesteps > 1
    events = random_images(network, 4, 4)
    with open_device("machine") as device:
        device.load(compile(network, LARGE))
        assert (device.infer(events).membranes != device.infer(events[:, ::-1]).membranes).any()


def test_files_keep_the_bins(tmp_path):
    network = with_events(random_network(4))
    save_program(compile(network, LARGE), tmp_path / "a.pspk")
    loaded = load_program(tmp_path / "a.pspk")
    assert loaded.network.input.bins == network.timesteps
    assert loaded.maps["input"][0] == network.timesteps


@pytest.mark.parametrize("url", ["golden", "machine"])
def test_other_shapes_are_refused(url):
    network = with_events(random_network(4))
    events = random_images(network, 4, 2)
    with open_device(url) as device:
        device.load(compile(network, LARGE))
        for wrong in (events[:, 0], events[:, :1], events[:, :, :, 1:], events[:0]):
            with pytest.raises(InputError, match=r"the network takes \[batch, 3, 20, 7, 5\]|the batch is empty"):
                device.infer(wrong)


def test_images_are_stored_once_and_events_for_each_timestep():
    image = random_network(4)
    events = with_events(image)
    assert [compile(each, LARGE).maps["input"][0] for each in (image, events)] == [1, image.timesteps]
    assert dataclasses.replace(events.input, bins=None).item == image.input.item
