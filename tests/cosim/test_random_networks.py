"""The simulated gateware against the golden model: random networks, every spike count and membrane."""

from collections.abc import Iterator

import pytest

from polyspike.compiler import compile
from polyspike.cosim.random_networks import (
    Aim,
    aimed_network,
    paired_network,
    random_images,
    random_network,
    with_negative_thresholds,
    with_random_firing,
)
from polyspike.driver import Device, Result, compare, open_device
from polyspike.network import Layer, Network
from polyspike.spec import LARGE, SMALL, TINY, Configuration, named
from polyspike.spec.instructions import SHAPE

#: Networks a test runs one after the other; a test's name gives the first seed.
_CHUNK = 10


@pytest.fixture(scope="module", params=["tiny", "large"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with open_device("sim", request.param) as opened:
        yield opened


def golden_result(network: Network, images: object, configuration: Configuration = LARGE) -> Result:
    with open_device("golden") as reference:
        reference.load(compile(network, configuration))
        return reference.infer(images, trace=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", range(0, 200, _CHUNK))
def test_no_integer_differs(device: Device, first: int) -> None:
    for seed in range(first, first + _CHUNK):
        network = random_network(seed)
        configuration = device.identity.configuration
        assert configuration is not None
        print(f"seed {seed} on {configuration.name}: T = {network.timesteps}, {len(network.nodes)} nodes")
        images = random_images(network, seed, 2)
        device.load(compile(network, configuration))
        expected = golden_result(network, images)
        comparison = compare(device.infer(images, trace=True), expected)
        assert comparison.differing == 0, f"seed {seed}: {comparison}"
        # The same without reading layers back: no layer depends on being watched.
        device.reset()
        assert (device.infer(images).membranes == expected.membranes).all()
        counters = device.counters()
        stalls = counters.stall_fetch + counters.stall_port + counters.stall_drain + counters.stall_idle
        assert counters.events + stalls == counters.cycles * configuration.columns


@pytest.mark.parametrize("device", ["large"], indirect=True)
@pytest.mark.parametrize("timesteps", [1, 2])
@pytest.mark.parametrize("membrane", [False, True])
def test_no_integer_differs_where_columns_share_a_window(device: Device, membrane: bool, timesteps: int) -> None:
    """Of a layer that spikes, and of the output."""
    aim = Aim(("shared",), 8, True, timesteps, "both", membrane, whole=24, columns=LARGE.columns, lanes=LARGE.lanes)
    for seed in range(3):
        network = aimed_network(seed, aim)
        program = compile(network, LARGE)
        layer = program.report[-1 if membrane else -2]
        assert layer.mapping == "4 positions x 2 tiles, window divided"
        images = random_images(network, seed, 2)
        device.load(program)
        comparison = compare(device.infer(images, trace=True), golden_result(network, images))
        assert comparison.differing == 0, f"seed {seed}: {comparison}"


@pytest.mark.parametrize(("columns", "lanes", "features"), [(1, 8, ()), (2, 16, ("negative_threshold",))])
def test_no_integer_differs_where_positions_are_worked_on_in_pairs(
    columns: int, lanes: int, features: tuple[str, ...]
) -> None:
    configuration = SMALL.replace(
        name="paired", columns=columns, lanes=lanes, fabric_lanes=0, pairs=1, **dict.fromkeys(features, 1)
    )
    runs = paired = 0
    with open_device("sim", configuration) as device:
        for seed in range(40):
            network = (paired_network if seed % 2 else random_network)(seed)
            if features:
                network = with_negative_thresholds(network, seed)
            program = compile(network, configuration)
            shapes = [each for segment in program.segments for each in segment.instructions if each.format is SHAPE]
            runs, paired = runs + len(shapes), paired + sum(each.values["pairs"] for each in shapes)
            images = random_images(network, seed, 2)
            device.load(program)
            comparison = compare(device.infer(images, trace=True), golden_result(network, images, configuration))
            assert comparison.differing == 0, f"seed {seed}: {comparison}"
    assert 20 < paired < runs - 20


@pytest.mark.parametrize("compact", [0, 1])
def test_no_integer_differs_with_negative_thresholds(compact: int) -> None:
    configuration = TINY.replace(name="tiny-dual", compact=compact, negative_threshold=1)
    silenced = 0
    with open_device("sim", configuration) as device:
        for seed in range(20):
            plain = random_network(seed)
            network = with_negative_thresholds(plain, seed)
            images = random_images(network, seed, 2)
            device.load(compile(network, configuration))
            expected = golden_result(network, images, configuration)
            comparison = compare(device.infer(images, trace=True), expected)
            assert comparison.differing == 0, f"seed {seed}: {comparison}"
            silenced += compare(golden_result(plain, images, configuration), expected).differing
    assert silenced > 1000, "negative thresholds must change something"


@pytest.mark.parametrize("compact", [0, 1])
def test_no_integer_differs_with_random_firing(compact: int) -> None:
    columns = {"compact": 1} if compact else {"compact": 0, "columns": 2, "read_ports": 2}
    configuration = TINY.replace(name="tiny-probabilistic", probabilistic=1, **columns)
    fired = quiet = 0
    with open_device("sim", configuration) as device:
        for seed in range(20):
            network = with_random_firing(random_network(seed), seed)
            images = random_images(network, seed, 2)
            device.load(compile(network, configuration))
            expected = golden_result(network, images, configuration)
            comparison = compare(device.infer(images, trace=True), expected)
            assert comparison.differing == 0, f"seed {seed}: {comparison}"
            assert expected.counts is not None
            for node in network:
                if isinstance(node, Layer) and node.neuron is not None and node.neuron.lfsr is not None:
                    spikes = int(expected.counts[node.name].sum())
                    fired, quiet = fired + spikes, quiet + expected.counts[node.name].size - spikes
    assert min(fired, quiet) > 1000


def test_engines_agree_to_the_cycle() -> None:
    """Our own translation of the gateware and CXXRTL's do the same in every cycle."""
    with open_device("sim", "tiny") as native, open_device("sim:cxxrtl", "tiny") as cxxrtl:
        for seed in range(5):
            network = random_network(seed)
            images = random_images(network, seed, 2)
            results = []
            for device in (native, cxxrtl):
                device.reset()
                device.load(compile(network, named("tiny")))
                results.append(device.infer(images, trace=True))
            assert compare(*results).differing == 0
            assert native.counters() == cxxrtl.counters()
