"""What every device must do alike. A device of any kind joins by its url."""

import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from golden.networks import a_layer, an_input
from polyspike import compiler
from polyspike.compiler.program import Program
from polyspike.cosim.board import SimulatedSerialBoard
from polyspike.cosim.device import simulated_core
from polyspike.driver import Device, compare, open_device
from polyspike.driver.server import Server, SharedTransport
from polyspike.network import CountRange, Network, Synapse
from polyspike.spec import LARGE, TINY, ConfigurationError, DeviceError, FileFormatError, InputError

#: Devices under test: urls, or the names of fixtures that have one.
DEVICES = ["golden", "machine", "sim", "2xsim", "3xmachine", "board", "serial_url", "tcp_url"]


def small_network() -> Network:
    """A convolution with two polarities, and an output: 4 x 4 pixels, T = 2."""
    rng = np.random.default_rng(3)
    kernel = rng.integers(-127, 128, (10, 1, 3, 3)).astype(np.int8)
    readout = rng.integers(-127, 128, (3, 10, 4, 4)).astype(np.int8)
    nodes = (
        an_input((1, 4, 4)),
        a_layer(
            "conv",
            (10, 4, 4),
            (Synapse("input", kernel, (3, 3), padding=(1, 1)),),
            CountRange(8, 7, 4),
            theta=9000,
            v0=4500,
            bias=-100,
        ),
        a_layer("output", (3, 1, 1), (Synapse("conv", readout, (4, 4)),), bias=17),
    )
    return Network("small", 2, nodes, ("a", "b", "c"))


@pytest.fixture(scope="module")
def program() -> Program:
    return compiler.compile(small_network(), TINY)


@pytest.fixture(scope="module")
def serial_url():
    """A board on a serial port: the board's top, bit by bit, at the other end of a pseudo-terminal."""
    with SimulatedSerialBoard(TINY) as board, pytest.MonkeyPatch.context() as environment:
        # However slow this machine is.
        environment.setenv("POLYSPIKE_TIME_SCALE", "20")
        yield f"serial:{board.path}"


@pytest.fixture(scope="module")
def tcp_url():
    """A simulated core on another machine."""
    token = secrets.token_urlsafe()
    shared = SharedTransport(simulated_core(TINY))
    with (
        Server(lambda: shared, TINY.frame_words, token, log=[].append) as server,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("POLYSPIKE_TOKEN", token)
        server.start()
        yield "tcp:{}:{}".format(*server.address)


@pytest.fixture(params=DEVICES)
def url(request: pytest.FixtureRequest) -> str:
    name = request.param
    return request.getfixturevalue(name) if name.endswith("_url") else name


@pytest.fixture
def device(url: str):
    with open_device(url, TINY) as device:
        yield device


IMAGES = np.random.default_rng(1).integers(0, 256, (5, 1, 4, 4)).astype(np.uint8)


def test_every_integer_equals_the_golden_device(device: Device, program: Program) -> None:
    device.load(program)
    with open_device("golden") as golden:
        golden.load(program)
        assert compare(device.infer(IMAGES, trace=True), golden.infer(IMAGES, trace=True)).differing == 0


def test_a_result_has_the_shapes_it_promises(device: Device, program: Program) -> None:
    device.load(program)
    result = device.infer(IMAGES, trace=True)
    assert result.membranes.dtype == np.int32
    assert result.membranes.shape == result.logits.shape == (5, 3)
    assert result.predictions.shape == (5,)
    assert result.predictions.dtype == np.int64
    np.testing.assert_allclose(result.logits, result.membranes / 2)
    np.testing.assert_array_equal(result.predictions, result.logits.argmax(1))
    assert result.counts is not None
    assert {name: counts.shape for name, counts in result.counts.items()} == {
        "input": (5, 2, 1, 4, 4),
        "conv": (5, 2, 10, 4, 4),
    }
    assert {counts.dtype for counts in result.counts.values()} == {np.dtype(np.int16)}
    np.testing.assert_array_equal(result.counts["input"][:, 1], IMAGES)
    assert device.infer(IMAGES).counts is None


def test_the_channel_axis_may_be_missing(device: Device, program: Program) -> None:
    device.load(program)
    np.testing.assert_array_equal(device.infer(IMAGES[:, 0]).membranes, device.infer(IMAGES).membranes)


def test_a_batch_is_its_images(device: Device, program: Program) -> None:
    device.load(program)
    one_by_one = np.concatenate([device.infer(image[None]).membranes for image in IMAGES])
    np.testing.assert_array_equal(device.infer(IMAGES).membranes, one_by_one)
    device.reset()
    np.testing.assert_array_equal(device.infer(IMAGES).membranes, one_by_one)


def test_wrong_images_are_refused(device: Device, program: Program) -> None:
    device.load(program)
    with pytest.raises(InputError, match=r"must be uint8 .*not float32"):
        device.infer(IMAGES.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shape \(5, 1, 3, 4\), but the network takes \[batch, 1, 4, 4\]"):
        device.infer(IMAGES[:, :, 1:])
    with pytest.raises(InputError, match=r"batch is empty"):
        device.infer(IMAGES[:0])


def test_nothing_is_inferred_before_a_load(device: Device) -> None:
    with pytest.raises(DeviceError, match=r"no program is loaded"):
        device.infer(IMAGES)


def test_a_program_for_another_configuration_is_refused(device: Device) -> None:
    other = compiler.compile(small_network(), LARGE)
    with pytest.raises(DeviceError, match=rf"'small' is for configuration 'large' .*'tiny' .digest {TINY.digest}"):
        device.load(other)


def test_a_program_file_is_read(device: Device, program: Program, tmp_path: Path) -> None:
    compiler.save_program(program, tmp_path / "network.pspk")
    device.load(program)
    expected = device.infer(IMAGES).membranes
    device.load(tmp_path / "network.pspk")
    np.testing.assert_array_equal(device.infer(IMAGES).membranes, expected)
    device.load(str(tmp_path / "network.pspk"))


def test_a_damaged_program_file_is_refused(device: Device, program: Program, tmp_path: Path) -> None:
    path = tmp_path / "network.pspk"
    compiler.save_program(program, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        device.load(path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FileFormatError, match="altered or damaged"):
        device.load(path)


def test_events_and_cycles_are_counted(device: Device, program: Program) -> None:
    if device.identity.description.startswith("the golden"):
        pytest.skip("the golden model has no hardware counters")
    device.load(program)
    device.reset()
    device.infer(IMAGES[:2])
    total = device.counters()
    profile = device.infer(IMAGES[:2], profile=True).profile
    assert profile is not None
    assert [each.layer for each in profile] == ["conv", "output"]
    assert sum(each.counters.events for each in profile) == total.events > 0
    assert sum(each.counters.words for each in profile) == total.words > 0
    assert min(each.counters.cycles for each in profile) > 0
    device.reset()
    assert device.counters().cycles == 0


def test_a_closed_device_says_so(url: str, program: Program) -> None:
    device = open_device(url, TINY)
    device.close()
    device.close()
    for use in (
        lambda device: device.load(program),
        lambda device: device.infer(IMAGES),
        lambda device: device.counters(),
        lambda device: device.reset(),
    ):
        with pytest.raises(DeviceError, match=r"is closed"):
            use(device)


def test_identity_names_the_configuration(device: Device) -> None:
    assert device.identity.configuration == TINY
    assert f"configuration 'tiny' (digest {TINY.digest})" in str(device.identity)


def test_the_golden_device_has_no_counters(program: Program) -> None:
    with open_device("golden", "tiny") as device:
        device.load(program)
        with pytest.raises(DeviceError, match=r"no hardware counters"):
            device.counters()
        with pytest.raises(DeviceError, match=r"no hardware counters"):
            device.infer(IMAGES, profile=True)


def test_unknown_devices_and_configurations_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"unknown device 'fpga'; there are golden, sim"):
        open_device("fpga")
    with pytest.raises(ConfigurationError, match=r"unknown configuration 'huge'"):
        open_device("golden", "huge")


def test_the_driver_needs_neither_torch_nor_amaranth() -> None:
    code = (
        "import sys, polyspike.driver; "
        "print([name for name in ('torch', 'amaranth') if name in sys.modules] or 'neither')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert done.stdout.strip() == "neither", done.stderr


def environment() -> dict[str, str]:
    """Where the running interpreter finds the packages, for another one."""
    return {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
