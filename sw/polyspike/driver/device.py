"""What every device can do, and what it hands back."""

import dataclasses
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from polyspike import compiler
from polyspike.compiler.program import Program
from polyspike.network import Network, quantize
from polyspike.spec import Configuration, DeviceError, InputError, named


@dataclasses.dataclass(frozen=True)
class Counters:
    """The hardware counters; `polyspike.spec.registers` says what each one counts."""

    cycles: int = 0
    events: int = 0
    words: int = 0
    zero_words: int = 0
    stall_fetch: int = 0
    stall_port: int = 0
    stall_drain: int = 0
    stall_idle: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(*(a - b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """What the counters gained while a layer was executed, over all images of a batch."""

    layer: str
    counters: Counters


@dataclasses.dataclass(frozen=True)
class Rates:
    """How fast a batch went: the core alone, and from end to end with everything that the host and the link take."""

    images: int
    #: wall-clock time of the batch
    seconds: float
    #: clock cycles in which a program was being executed
    cycles: int
    #: frequency of the device's clock; None where it is unknown
    clock_hz: int | None
    #: bytes sent to the device and received from it, everything included; None where there is no link
    sent: int | None
    received: int | None
    #: bytes sent / bytes that the link carries to the device in that time; None where its rate is unknown
    link_busy: float | None

    @property
    def cycles_per_image(self) -> float:
        """Cycles of the core for one image."""
        return self.cycles / self.images

    @property
    def core_images_per_second(self) -> float | None:
        """Images a second that the core alone computes."""
        return self.clock_hz / self.cycles_per_image if self.clock_hz and self.cycles else None

    @property
    def images_per_second(self) -> float:
        """Images a second from end to end."""
        return self.images / self.seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a batch of N images gave.

    `membranes` is int32 [N, outputs], `logits` float64 [N, outputs] is their worth in the float network, `predictions`
    int64 [N] the output with the largest logit. `counts` (with `trace`) holds the spike counts of every node but the
    output layer, int16 [N, T, C, H, W] by name, the input's included. `profile` (with `profile`) has one entry a layer.
    `rates` is None on devices without hardware counters.
    """

    membranes: NDArray[np.int32]
    logits: NDArray[np.float64]
    predictions: NDArray[np.int64]
    counts: dict[str, NDArray[np.int16]] | None = None
    profile: tuple[LayerProfile, ...] | None = None
    rates: Rates | None = None


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a device is. `configuration` is None until one is known."""

    description: str
    configuration: Configuration | None

    def __str__(self) -> str:
        if self.configuration is None:
            return self.description
        return f"{self.description}, {describe(self.configuration)}"


class Device(Protocol):
    """Something that runs programs. A context manager that closes itself.

    Once closed, every method but `close` raises DeviceError.
    """

    @property
    def identity(self) -> Identity:
        """What the device is."""

    def load(self, program: Program | Path | str) -> None:
        """Load a compiled network, given as such or as a file.

        Raises
        ------
        DeviceError
            The program is for another configuration; the message names both.
        FileFormatError
            The file is not a sound program file.
        """

    def infer(
        self, images: NDArray[np.uint8], *, progress: bool = False, trace: bool = False, profile: bool = False
    ) -> Result:
        """Run the loaded network on a batch.

        Parameters
        ----------
        images
            uint8, [N, C, H, W]; the channel axis may be missing where there is one channel.
        progress
            Show a progress bar over the images.
        trace
            Return every layer's spike counts. Slower: they are read back from the device.
        profile
            Return what the counters gained in each layer.

        Raises
        ------
        InputError
            The images have the wrong shape or dtype; the message says what the network takes.
        DeviceError
            No program is loaded, or the device failed.
        """

    def counters(self) -> Counters:
        """Return the counters, which add up from run to run. DeviceError where the device has none."""

    def reset(self) -> None:
        """Set the counters to zero. The loaded program stays and needs no reload."""

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """Base of what a `with` statement closes at its end."""

    def close(self) -> None:
        """Let go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe(configuration: Configuration) -> str:
    """Name a configuration in a way that tells it from another one of the same name."""
    return f"configuration {configuration.name!r} (digest {configuration.digest})"


def as_configuration(configuration: Configuration | str | None) -> Configuration | None:
    """Look up a configuration that may be given by name."""
    return named(configuration) if isinstance(configuration, str) else configuration


def as_program(program: Program | Path | str) -> Program:
    """Read a program that may be given as a file."""
    return program if isinstance(program, Program) else compiler.load_program(program)


def require_configuration(program: Program, configuration: Configuration) -> None:
    """Refuse a program that was compiled for other hardware, by name."""
    if program.configuration.digest != configuration.digest:
        raise DeviceError(
            f"the program of network {program.network.name!r} is for {describe(program.configuration)}, but the device "
            f"has {describe(configuration)}; compile the network for the device's configuration"
        )


def input_counts(network: Network, images: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Check a batch of images and turn it into input counts. InputError says what the network takes."""
    counts = quantize(network.input, images)
    if len(counts) == 0:
        raise InputError("the batch is empty; give at least one image")
    return counts


def make_result(
    network: Network,
    membranes: NDArray[np.int32],
    counts: dict[str, NDArray[np.int16]] | None = None,
    profile: tuple[LayerProfile, ...] | None = None,
    rates: Rates | None = None,
) -> Result:
    """Turn output membranes, int32 [N, C, H, W], into a result."""
    logits = membranes * network.output.scale[:, None, None] / network.timesteps
    logits = logits.reshape(len(membranes), -1)
    return Result(membranes.reshape(len(membranes), -1), logits, logits.argmax(axis=1), counts, profile, rates)
