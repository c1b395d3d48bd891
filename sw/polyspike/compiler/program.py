"""What a program is: memory contents, instructions, and what the host does with them.

A *host map* is an array of 64-bit words the host keeps for each image, [timestep][row][pixel][word]: the network's
input (filled by `polyspike.compiler.packing.pack_input`), its output membranes, and every map that does not stay on the
chip. A program is a list of segments. For a batch,
the driver goes through the segments in order; in each it writes `writes` once and then executes `steps` for every
image. A network that fits the chip is one segment, whose writes need not be repeated for the next batch.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from polyspike.network import Network
from polyspike.spec import Configuration
from polyspike.spec.instructions import Instruction
from polyspike.spec.memory import Space

from .packing import InputPacking

#: Clock cycles of an instruction, RUN aside. Hardware counters begin with the products that RUN works out first.
INSTRUCTION_CYCLES = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Write:
    """Words the host writes to the device before a segment: weights, parameters or instructions."""

    space: Space
    #: Columns that take the words, bit c for column c (WEIGHTS and PARAMS only, else 0).
    mask: int
    address: int
    words: NDArray[np.uint64]


@dataclasses.dataclass(frozen=True)
class Box:
    """A box of a map: half-open ranges of timesteps, rows, pixels and words, and where it lies in the spike memory.

    In the spike memory the box is dense: [timestep][row][pixel][word] from `address` on.
    """

    map: str
    time: tuple[int, int]
    rows: tuple[int, int]
    pixels: tuple[int, int]
    words: tuple[int, int]
    address: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Size on each axis."""
        return tuple(stop - start for start, stop in (self.time, self.rows, self.pixels, self.words))  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Number of words."""
        return int(np.prod(self.shape))

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """The box as an index into its host map."""
        return tuple(slice(*each) for each in (self.time, self.rows, self.pixels, self.words))  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Upload:
    """Copy a box of a host map into the spike memory."""

    box: Box


@dataclasses.dataclass(frozen=True)
class Download:
    """Copy a box from the spike memory into a host map."""

    box: Box


@dataclasses.dataclass(frozen=True)
class Block:
    """The instructions of one layer, or of a part of it, ending in RUN.

    `output` is the box of the layer's map that the block leaves in the spike memory (spike counts, or membranes for the
    last layer); None where the block leaves partial sums. Its `map` is the layer's name.
    """

    layer: str
    first: int
    count: int
    output: Box | None


@dataclasses.dataclass(frozen=True)
class Run:
    """Execute blocks, which lie one behind the other in the program memory."""

    blocks: tuple[Block, ...]

    @property
    def first(self) -> int:
        """Index of the first instruction."""
        return self.blocks[0].first

    @property
    def count(self) -> int:
        """Number of instructions."""
        return sum(block.count for block in self.blocks)


Step = Upload | Download | Run


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """What is written once, and what is then done for every image."""

    writes: tuple[Write, ...]
    steps: tuple[Step, ...]
    #: This segment's instructions; the same words are among `writes`. For listings.
    instructions: tuple[Instruction, ...]


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What the compiler decided for one layer, and what it predicts."""

    layer: str
    #: e.g. "8 positions x 1 tile" : columns that divide positions, columns that hold different tiles;
    #: whether columns work on pairs of positions, whether the positions are parts of a window, and whether window rows
    #: were packed into the input's words
    mapping: str
    #: cycles for one image at the assumed density
    cycles: int
    #: weight rows a column needs
    weight_rows: int
    #: words of the layer's output map
    output_words: int
    #: "resident", or what is streamed: "weights streamed", "maps streamed", "weights and maps streamed"
    residency: str
    #: why
    reason: str
    #: multiply-accumulates of the dense layer for one image and timestep
    macs: int


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A compiled network: everything a device needs, the network itself included."""

    configuration: Configuration
    network: Network
    segments: tuple[Segment, ...]
    #: Shape [timestep][row][pixel][word] of every host map, by name.
    maps: dict[str, tuple[int, int, int, int]]
    report: tuple[LayerReport, ...]
    #: How the input's counts lie in its host map, if not as in the network.
    packing: InputPacking | None = None
    #: Where not 0, the only segment's steps are Upload (of the input), Run and Download (of the output), and the blocks
    #: after the first so many neither read nor write what is uploaded: the next image can be sent while they run.
    input_blocks: int = 0

    @property
    def cycles(self) -> int:
        """Predicted cycles for an image, as hardware counters have them: without `setup_cycles`."""
        return sum(layer.cycles for layer in self.report)

    def setup_cycles(self, layer: str | None = None) -> int:
        """Return the cycles before the RUNs of a layer, or of all, for an image: no hardware counter has them."""
        return sum(
            INSTRUCTION_CYCLES * block.count
            for segment in self.segments
            for step in segment.steps
            if isinstance(step, Run)
            for block in step.blocks
            if layer in (None, block.layer)
        )

    @property
    def resident(self) -> bool:
        """Whether the device keeps everything from one batch to the next."""
        return len(self.segments) == 1
