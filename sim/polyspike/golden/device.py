"""The golden model behind the driver's `Device` protocol."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyspike.compiler.program import Program
from polyspike.driver.device import (
    Closing,
    Counters,
    Identity,
    Result,
    as_program,
    input_counts,
    make_result,
    require_configuration,
)
from polyspike.spec import Configuration, DeviceError

from .model import run


class GoldenDevice(Closing):
    """Executes the network inside a program, not its instructions. It has no hardware, so no counters and no profile.

    `configuration` only decides which programs are refused; with None it is the first program's.
    """

    def __init__(self, configuration: Configuration | None = None) -> None:
        self._configuration = configuration
        self._program: Program | None = None
        self._closed = False

    @property
    def identity(self) -> Identity:
        """What the device is."""
        return Identity("the golden model (PyTorch)", self._configuration)

    def load(self, program: Program | Path | str) -> None:
        """Load a program. See `polyspike.driver.Device.load`."""
        self._need_open()
        program = as_program(program)
        if self._configuration is None:
            self._configuration = program.configuration
        require_configuration(program, self._configuration)
        self._program = program

    def infer(
        self, images: NDArray[np.uint8], *, progress: bool = False, trace: bool = False, profile: bool = False
    ) -> Result:
        """Run the loaded network on a batch. See `polyspike.driver.Device.infer`; a profile is refused."""
        self._need_open()
        if self._program is None:
            raise DeviceError("no program is loaded; call load() before infer()")
        if profile:
            raise self._no_counters()
        network = self._program.network
        result = run(network, input_counts(network, images), observe=trace, progress=progress)
        return make_result(network, result.membranes, result.counts if trace else None)

    def counters(self) -> Counters:
        """Raise DeviceError: there are none."""
        self._need_open()
        raise self._no_counters()

    def reset(self) -> None:
        """Do nothing: there are no counters to clear."""
        self._need_open()

    def close(self) -> None:
        """Let go of the program."""
        self._closed = True
        self._program = None

    def _need_open(self) -> None:
        if self._closed:
            raise DeviceError("the device (the golden model) is closed")

    @staticmethod
    def _no_counters() -> DeviceError:
        return DeviceError('the golden model has no hardware counters; use a simulated device such as "sim"')
