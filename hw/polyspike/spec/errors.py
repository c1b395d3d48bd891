"""The exception family. Every error a user can cause derives from `PolyspikeError`."""


class PolyspikeError(Exception):
    """Root of every error this project raises on purpose. The message says what is wrong and what would be right."""


class ConfigurationError(PolyspikeError):
    """A hardware configuration breaks one of its invariants, or its name is unknown."""


class ConversionError(PolyspikeError):
    """A float network holds something that cannot be converted. Names the module and its type."""


class NetworkError(PolyspikeError):
    """An integer network breaks a rule of its verifier. Names the layer."""


class FileFormatError(PolyspikeError):
    """A file is not of the expected kind or version, is truncated, or was altered."""


class CompileError(PolyspikeError):
    """An integer network cannot be lowered to a program for a configuration."""


class BuildError(PolyspikeError):
    """A bitstream cannot be built or loaded: a tool is missing or fails, the part is too small or too slow."""


class MembraneOverflowError(CompileError):
    """A membrane potential could leave the accumulator. Names layer, channel and the width that would fit."""


class InputError(PolyspikeError):
    """Images handed to a network or device have the wrong shape, type or values."""


class DeviceError(PolyspikeError):
    """A device cannot be opened, refuses a program, or reports a failure."""


class LinkError(DeviceError):
    """The byte link to a device failed: timeout, damaged frame, or refused command."""
