"""One driver for every device: golden model, simulated gateware, instruction-set simulator, board.

    with open_device("sim", configuration="large") as device:
        device.load("network.pspk")
        result = device.infer(images)

Needs neither torch nor amaranth; a device that does is imported when it is opened.
"""

from .compare import Comparison, Mismatch, compare
from .device import Counters, Device, Identity, LayerProfile, Rates, Result
from .link import Link, open_link
from .opening import open_device
from .ports import Connection, MemoryPort, Traffic, Transport
from .word_device import WordDevice

__all__ = [
    "Comparison",
    "Connection",
    "Counters",
    "Device",
    "Identity",
    "LayerProfile",
    "Link",
    "MemoryPort",
    "Mismatch",
    "Rates",
    "Result",
    "Traffic",
    "Transport",
    "WordDevice",
    "compare",
    "open_device",
    "open_link",
]
