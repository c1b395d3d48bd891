"""What a configuration takes of an ECP5, and how fast it will be: predictions, from what was synthesized and routed.

Multipliers and block RAMs follow from the configuration. Look-up tables are those of its columns, which
`benchmarks/columns.py` found by synthesis of single ones, and of the rest, a device and a column, which is what
released builds take besides. The clock is a straight line through the released builds: over the logarithm of their
look-up tables, one for each speed grade.
"""

import dataclasses
import functools
import json
import math
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from polyspike import bitstreams
from polyspike.gateware.boards import BOARDS, Board
from polyspike.gateware.boards.families import Ecp5Board
from polyspike.gateware.boards.usb import UsbBoard
from polyspike.spec import BuildError, Configuration

#: Look-up tables, multipliers and block RAMs of a part, as nextpnr counts them; a 12F is a 25F by another name.
PARTS = {
    "LFE5U-12F": (24_288, 28, 56),
    "LFE5U-25F": (24_288, 28, 56),
    "LFE5U-45F": (43_848, 72, 108),
    "LFE5U-85F": (83_640, 156, 208),
    "LFE5UM5G-85F": (83_640, 156, 208),
}

#: The share of the look-up tables that place and route still finds places for: it took 62,950 of an ECP5-85, and did
#: not come to an end with 68,074 (docs/decisions/0024-pairs-of-positions.md).
FULL = 0.8

#: Shapes of a block RAM: bytes a word, and words. Bytes have 9 bits, of which memories of 8-bit bytes use 8.
_BLOCK_RAM = ((4, 512), (2, 1024), (1, 2048))


@dataclasses.dataclass(frozen=True)
class Resources:
    """Look-up tables, multipliers and block RAMs."""

    lut: int
    dsp: int
    bram: int

    def fit(self, room: "Resources") -> bool:
        """Return whether there are as many of each in `room`."""
        return self.lut <= room.lut and self.dsp <= room.dsp and self.bram <= room.bram


def available(board: type[Board]) -> Resources:
    """Return what of a board's part can be used.

    Raises
    ------
    BuildError
        The board's part is of no family that predictions are made for.
    """
    part = board().device
    for name, (lut, dsp, bram) in PARTS.items():
        if part.startswith(name):
            return Resources(round(FULL * lut), dsp, bram)
    raise BuildError(
        f"{board.name} has {part}, but predictions are for ECP5 parts only; "
        f"boards with one: {', '.join(each for each, kind in BOARDS.items() if issubclass(kind, Ecp5Board))}"
    )


def memory_blocks(bytes_: int, depth: int) -> int:
    """Return the block RAMs of a memory of `depth` words of so many bytes, in the shape that takes the fewest."""
    return min(math.ceil(bytes_ / wide) * math.ceil(depth / words) for wide, words in _BLOCK_RAM)


def predict(configuration: Configuration) -> Resources:
    """Return what a configuration takes behind a UART on an ECP5."""
    c = configuration
    # Each of the lanes that are fired together has parameters of its own: 72 bits a channel.
    column = memory_blocks(c.lanes, c.weight_depth) + c.fire_width * memory_blocks(8, c.param_depth // c.fire_width)
    spikes = c.read_ports * memory_blocks(8, c.spike_depth)
    bram = c.columns * column + spikes + memory_blocks(8, c.program_depth) + memory_blocks(1, c.rx_bytes)
    device, each = _rest()
    lut = device + c.columns * (each + column_lut(c))
    return Resources(round(lut), c.columns * (c.lanes - c.fabric_lanes), bram)


def column_lut(configuration: Configuration) -> float:
    """Return the look-up tables of a column."""
    return float(_terms(configuration) @ _fit())


def _terms(c: Configuration) -> NDArray[np.float64]:
    """Return what a column's look-up tables grow with."""
    features = [c.negative_threshold * c.fire_width, c.probabilistic, c.pairs, c.pairs * c.lanes]
    return np.array([1, c.lanes, c.fire_width, c.fabric_lanes, *features], np.float64)


@functools.cache
def columns() -> tuple[tuple[Configuration, int], ...]:
    """Return the columns that were synthesized, each with its look-up tables; `benchmarks/columns.py` writes them."""
    rows = json.loads(resources.files(__package__).joinpath("columns.json").read_text())
    return tuple((Configuration.from_dict(row["configuration"]), row["lut"]) for row in rows)


@functools.cache
def _fit() -> NDArray[np.float64]:
    """Return the look-up tables of each term, by least squares over the synthesized columns."""
    terms = np.array([_terms(configuration) for configuration, _ in columns()])
    result: NDArray[np.float64] = np.linalg.lstsq(terms, np.array([lut for _, lut in columns()]), rcond=None)[0]
    return result


def builds() -> list[tuple[type[Board], bitstreams.Manifest]]:
    """Return the released builds for ECP5 boards."""
    found = [(BOARDS[name], manifest) for name, manifest in bitstreams.manifests().items()]
    return [(kind, each) for kind, each in found if issubclass(kind, Ecp5Board)]


@functools.cache
def _rest() -> NDArray[np.float64]:
    """Return the look-up tables besides columns, a device and a column, by least squares over the released builds."""
    plain = [each for kind, each in builds() if not issubclass(kind, UsbBoard)]
    terms = np.array([[1, each.configuration.columns] for each in plain], np.float64)
    rests = [each.utilization.lut - each.configuration.columns * column_lut(each.configuration) for each in plain]
    result: NDArray[np.float64] = np.linalg.lstsq(terms, np.array(rests), rcond=None)[0]
    return result


def predict_fmax(board: type[Board], used: Resources) -> float:
    """Return the clock that a board's part will route at, in MHz."""
    speed = _speed(board)
    grades, (slope, *intercepts) = _clocks()
    at = intercepts[grades.index(speed)] if speed in grades else sum(intercepts) / len(intercepts)
    return float(at + slope * math.log2(used.lut))


@functools.cache
def _speed(board: type[Board]) -> str:
    """Return a part's speed grade."""
    return str(board().pins.speed)


@functools.cache
def _clocks() -> tuple[list[str], NDArray[np.float64]]:
    """Return the speed grades there are builds of, and the line: its slope, and its height for each of them."""
    points = [(_speed(kind), each.utilization.lut, each.fmax_mhz) for kind, each in builds()]
    grades = sorted({speed for speed, _, _ in points})
    terms = [[math.log2(lut), *(speed == grade for grade in grades)] for speed, lut, _ in points]
    values = [fmax for _, _, fmax in points]
    return grades, np.linalg.lstsq(np.array(terms, np.float64), np.array(values), rcond=None)[0]
