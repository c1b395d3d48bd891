"""Opening a device by name."""

import importlib

from polyspike.spec import Configuration, DeviceError

from .device import Device, as_configuration
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
}


def open_device(url: str, configuration: Configuration | str | None = None) -> Device:
    """Open a device.

    Parameters
    ----------
    url
        One of `URLS`.
    configuration
        The device's configuration or its name. With None, that of the first program that is loaded.

    Raises
    ------
    DeviceError
        There is no such device, or it cannot be opened; the message says why.
    ConfigurationError
        There is no configuration of that name.
    """
    configuration = as_configuration(configuration)
    if url not in URLS:
        raise DeviceError(f"unknown device {url!r}; there are {', '.join(URLS)}")
    # What needs torch, amaranth or a compiler is imported only when it is asked for.
    if url == "golden":
        device: Device = importlib.import_module("polyspike.golden.device").GoldenDevice(configuration)
        return device
    if url == "machine":
        return WordDevice(_machine, URLS[url], configuration)
    connect = importlib.import_module("polyspike.cosim.device").connector(url.partition(":")[2] or None)
    return WordDevice(connect, URLS[url], configuration)


def _machine(configuration: Configuration) -> Connection:
    machine = importlib.import_module("polyspike.machine").Machine(configuration)
    return Connection(machine, URLS["machine"], lambda: None)
