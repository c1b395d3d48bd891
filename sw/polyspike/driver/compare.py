"""Are two results the same, to the last integer?"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

from .device import Result


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """One differing integer. `layer` is None for an output membrane: `channel` is the output, the rest is 0."""

    layer: str | None
    image: int
    timestep: int
    channel: int
    row: int
    column: int
    value: int
    expected: int

    def __str__(self) -> str:
        if self.layer is None:
            return f"output {self.channel} of image {self.image} is {self.value}, expected {self.expected}"
        return (
            f"layer {self.layer!r}, image {self.image}, timestep {self.timestep}, "
            f"position ({self.row}, {self.column}), channel {self.channel}: {self.value}, expected {self.expected}"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How many integers were compared, and how many differ. `first` is the first one that does, in layer order."""

    compared: int
    differing: int
    first: Mismatch | None

    def __str__(self) -> str:
        text = f"{self.differing} of {self.compared} integers differ"
        return text if self.first is None else f"{text}; the first: {self.first}"


def compare(result: Result, golden: Result) -> Comparison:
    """Compare every spike count of every layer at every timestep, and every output membrane.

    Both results must come from the same images, and be traced.

    Raises
    ------
    InputError
        A result was not traced, or the two are not of the same network and batch.
    """
    if result.counts is None or golden.counts is None:
        raise InputError("only traced results can be compared; call infer(images, trace=True)")
    if list(result.counts) != list(golden.counts):
        raise InputError(
            f"the results have different layers: {', '.join(result.counts)} and {', '.join(golden.counts)}"
        )
    pairs: list[tuple[str | None, NDArray[np.integer], NDArray[np.integer]]] = [
        (name, result.counts[name], golden.counts[name]) for name in golden.counts
    ]
    # Membranes get the axes of counts: [image][timestep][channel][row][pixel].
    pairs.append((None, result.membranes[:, None, :, None, None], golden.membranes[:, None, :, None, None]))
    compared = differing = 0
    first = None
    for name, values, expected in pairs:
        if values.shape != expected.shape:
            raise InputError(f"layer {name!r} has shapes {values.shape} and {expected.shape}; are the images the same?")
        compared += values.size
        places = np.argwhere(values != expected)
        differing += len(places)
        if first is None and len(places):
            at = tuple(int(index) for index in places[0])
            image, timestep, channel, row, column = at
            first = Mismatch(name, image, timestep, channel, row, column, int(values[at]), int(expected[at]))
    return Comparison(compared, differing, first)
