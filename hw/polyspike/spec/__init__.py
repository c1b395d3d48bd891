"""What gateware, compiler, driver, simulator and documentation agree on. Standard library only."""

from .configuration import LARGE, LARGE_PAIRS, NAMED, NEURON_FEATURES, SMALL, TINY, Configuration, for_neuron, named
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
    "LARGE_PAIRS",
    "NAMED",
    "NEURON_FEATURES",
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
    "for_neuron",
    "named",
]
