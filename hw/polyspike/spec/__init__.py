"""What gateware, compiler, driver, simulator and documentation agree on. Standard library only."""

from .configuration import LARGE, NAMED, SMALL, TINY, Configuration, named
from .errors import (
    BuildError,
    CompileError,
    ConfigurationError,
    ConversionError,
    DeviceError,
    FileFormatError,
    InputError,
    LinkError,
    MembraneOverflowError,
    NetworkError,
    PolyspikeError,
)

__all__ = [
    "LARGE",
    "NAMED",
    "SMALL",
    "TINY",
    "BuildError",
    "CompileError",
    "Configuration",
    "ConfigurationError",
    "ConversionError",
    "DeviceError",
    "FileFormatError",
    "InputError",
    "LinkError",
    "MembraneOverflowError",
    "NetworkError",
    "PolyspikeError",
    "named",
]
