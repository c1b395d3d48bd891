"""Opening a device by name."""

import functools
import importlib

from polyspike.spec import Configuration, DeviceError

from .device import Device, as_configuration
from .parallel import ParallelDevice
from .ports import Connection
from .word_device import WordDevice

#: Devices and what they are, for messages and help texts.
URLS = {
    "golden": "the golden model (PyTorch)",
    "sim": "the gateware, compiled to a native library by the preferred engine",
    "sim:native": "the gateware, compiled by polyspike's own translator",
    "sim:cxxrtl": "the gateware, compiled by CXXRTL (slow to compile)",
    "sim:verilator": "the gateware, compiled by Verilator",
    "machine": "the instruction-set simulator",
    "COUNTxDEVICE": "several simulated devices that divide every batch, e.g. 2xsim",
    "board": "a simulated board: the gateware behind a UART, bit by bit",
    "serial:PORT[@BAUD]": "a board on a serial port, e.g. serial:/dev/ttyUSB0",
    "tcp:HOST:PORT": "a device that `polyspike serve` offers, on this or another machine",
}

#: Modules whose `connect` (see `Connection`) opens what stands behind a scheme.
SCHEMES = {"serial": "polyspike.driver.serial", "tcp": "polyspike.driver.tcp"}


def open_device(url: str, configuration: Configuration | str | None = None) -> Device:
    """Open a device.

    Parameters
    ----------
    url
        One of `URLS`.
    configuration
        The device's configuration or its name. With None, the one that a board says it has, and otherwise that of the
        first program that is loaded.

    Raises
    ------
    DeviceError
        There is no such device, or it cannot be opened; the message says why.
    LinkError
        It does not answer (a DeviceError, too).
    ConfigurationError
        There is no configuration of that name.
    """
    configuration = as_configuration(configuration)
    scheme, _, target = url.partition(":")
    # What needs torch, amaranth, a compiler or a port is imported only when it is asked for.
    if scheme in SCHEMES and target:
        connect = importlib.import_module(SCHEMES[scheme]).connect
        return WordDevice(functools.partial(connect, target), url, configuration, identifies=True)
    count, times, single = url.partition("x")
    if times and count.isdecimal() and int(count) > 0 and single.split(":")[0] in ("sim", "machine"):
        return _several(int(count), single, configuration)
    if url not in URLS:
        raise DeviceError(f"unknown device {url!r}; there are {', '.join(URLS)}")
    if url == "golden":
        device: Device = importlib.import_module("polyspike.golden.device").GoldenDevice(configuration)
        return device
    if url == "machine":
        return WordDevice(_machine, URLS[url], configuration)
    if url == "board":
        return WordDevice(importlib.import_module("polyspike.cosim.board").connector(), URLS[url], configuration)
    return WordDevice(
        importlib.import_module("polyspike.cosim.device").connector(target or None), URLS[url], configuration
    )


def _several(count: int, url: str, configuration: Configuration | None) -> Device:
    """Open several devices as one."""
    devices: list[Device] = []
    try:
        for _ in range(count):
            devices.append(open_device(url, configuration))
    except BaseException:
        for device in devices:
            device.close()
        raise
    return ParallelDevice(devices)


def _machine(configuration: Configuration) -> Connection:
    machine = importlib.import_module("polyspike.machine").Machine(configuration)
    return Connection(machine, configuration, URLS["machine"], lambda: None)
