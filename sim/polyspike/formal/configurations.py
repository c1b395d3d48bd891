"""Blocks small enough to reason about."""

import dataclasses

from polyspike.spec import Configuration


@dataclasses.dataclass(frozen=True)
class ReducedConfiguration(Configuration):
    """A configuration narrower and shallower than any that makes sense as hardware, and therefore not checked."""

    def __post_init__(self) -> None:
        pass


#: Membranes of 10 bits, thresholds of 5, counts of 4, memories of a few words.
REDUCED = ReducedConfiguration(
    name="reduced",
    columns=1,
    lanes=8,
    weight_depth=4,
    spike_depth=8,
    param_depth=8,
    program_depth=4,
    count_bits=4,
    membrane_bits=10,
    prefetch=4,
    frame_words=2,
    rx_bytes=64,
)
#: The same, but of the kind for small devices.
COMPACT = dataclasses.replace(REDUCED, name="reduced compact", compact=1, unpacker=0)
#: The same with two columns.
COLUMNS = dataclasses.replace(REDUCED, name="two reduced columns", columns=2)
#: The same as the first with pairs of positions.
PAIRS = dataclasses.replace(REDUCED, name="reduced with pairs", pairs=1)
