"""Several devices as one: a batch is divided among them."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.compiler.program import Program
from polyspike.spec import InputError

from .device import Closing, Counters, Device, Identity, LayerProfile, Rates, Result, as_program


class ParallelDevice(Closing):
    """Devices of one kind that each take a part of every batch, side by side in threads.

    The core rate is that of one of them; wall-clock time, bytes and counters are those of all.

    Parameters
    ----------
    devices
        At least one; closed together with this one.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = list(devices)

    @property
    def identity(self) -> Identity:
        """What the devices are."""
        first = self._devices[0].identity
        return Identity(f"{len(self._devices)} x {first.description}", first.configuration)

    def load(self, program: Program | Path | str) -> None:
        """Load a program into all devices. See `Device.load`."""
        program = as_program(program)
        # One after the other: the first one may have to be built.
        for device in self._devices:
            device.load(program)

    def infer(
        self, images: NDArray[np.uint8], *, progress: bool = False, trace: bool = False, profile: bool = False
    ) -> Result:
        """Run the loaded network on a batch. See `Device.infer`; progress is that of the first device's part."""
        start = time.perf_counter()
        parts = np.array_split(images, max(1, min(len(images), len(self._devices))))

        def run(index: int) -> Result:
            return self._devices[index].infer(
                parts[index], progress=progress and index == 0, trace=trace, profile=profile
            )

        try:
            with ThreadPoolExecutor(len(parts)) as pool:
                results = list(pool.map(run, range(len(parts))))
        except InputError:
            # The message is to be about the batch, not about a part of it.
            self._devices[0].infer(images)
            raise
        return _together(results, time.perf_counter() - start)

    def counters(self) -> Counters:
        """Return the sums of all counters."""
        return functools.reduce(Counters.__add__, (device.counters() for device in self._devices))

    def reset(self) -> None:
        """Set the counters to zero."""
        for device in self._devices:
            device.reset()

    def close(self) -> None:
        """Let go of all devices. Closing twice is harmless."""
        for device in self._devices:
            device.close()


def _together(results: list[Result], seconds: float) -> Result:
    """Put the results of a batch's parts together."""

    def joined(values: Callable[[Result], Any]) -> Any:
        return np.concatenate([values(result) for result in results])

    first = results[0]
    counts = profile = rates = None
    if first.counts is not None:
        counts = {name: np.concatenate([result.counts[name] for result in results]) for name in first.counts}  # type: ignore[index]
    if first.profile is not None:
        layers = zip(*(result.profile or () for result in results), strict=True)
        profile = tuple(
            LayerProfile(each[0].layer, functools.reduce(Counters.__add__, (part.counters for part in each)))
            for each in layers
        )
    if first.rates is not None:
        rates = _rates([result.rates for result in results if result.rates is not None], seconds)
    return Result(
        joined(lambda result: result.membranes),
        joined(lambda result: result.logits),
        joined(lambda result: result.predictions),
        counts,
        profile,
        rates,
    )


def _rates(parts: list[Rates], seconds: float) -> Rates:
    def total(values: list[int | None]) -> int | None:
        return None if None in values else sum(value for value in values if value is not None)

    return Rates(
        sum(part.images for part in parts),
        seconds,
        sum(part.cycles for part in parts),
        parts[0].clock_hz,
        total([part.sent for part in parts]),
        total([part.received for part in parts]),
        parts[0].link_busy,
    )
