"""Where the block RAMs and multipliers of `large` go on a Lattice ECP5-85.

The memories of `large` take nearly all block RAMs of the part. Left to itself, nextpnr then lays each column out as a
stripe across the whole device, its weights at one end and its multipliers at the other. Here each column has a part of
the device of its own: a quarter of its width, and the lower half for even columns, the upper half for odd ones. The two
copies of the spike memory lie in the middle, each beside the columns that read it. Everything else is left to nextpnr.
"""

from collections.abc import Iterator

from polyspike.spec import Configuration
from polyspike.spec.configuration import LARGE, LARGE_PAIRS

#: Both block RAMs and multipliers come in blocks of four, side by side; here is where these begin. (From nextpnr.)
_BLOCKS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
_BLOCK_RAMS = tuple((2 * each, f"EBR{each}") for each in range(4))
_MULTIPLIERS = tuple((each, f"MULT18_{each}") for each in (0, 1, 4, 5))
#: Sites in a row, for each quarter of its width.
_QUARTER = len(_BLOCKS)
#: Sites in the middle of a row for a copy of the spike memory, from `_MIDDLE` on.
_COPY = 16
_MIDDLE = 2 * _QUARTER - _COPY // 2


def _site(y: int, number: int, kinds: tuple[tuple[int, str], ...]) -> str:
    """Return the name of a site by its row and its number in the row."""
    block, place = divmod(number, len(kinds))
    x, name = kinds[place]
    return f"X{_BLOCKS[block] + x}/Y{y}/{name}"


def _sites(fire_width: int) -> Iterator[tuple[str, str]]:
    """Yield cells, by the ends of their names, and their sites."""
    for column in range(LARGE.columns):
        quarter, upper = divmod(column, 2)
        first = quarter * _QUARTER
        # Beside the spike memory a quarter has nine sites; the others lie to its left or right.
        side = quarter * 9 + (_COPY if quarter > 1 else 0)
        outer, inner = (82, 70) if upper else (22, 46)
        weights = [(outer, first + each) for each in range(13)] + [(inner, side + each) for each in range(3)]
        if upper:
            products = [(58, first + each) for each in range(13)] + [(34, first + each) for each in range(10, 13)]
        else:
            products = [(34, first + each) for each in range(10)] + [(10, first + each) for each in range(6)]
        for lane in range(LARGE.lanes):
            yield f"column{column}.lanes.bank.0.{lane}", _site(*weights[lane], _BLOCK_RAMS)
            yield f"column{column}.lanes.multiplier{lane}.multiplier", _site(*products[lane], _MULTIPLIERS)
        for each in range(4):
            bank, part = divmod(each, 4 // fire_width)
            name = f"column{column}.fire.parameters{bank}.0.{part}"
            yield name, _site(inner, side + 3 + each, _BLOCK_RAMS)
    for copy, y in enumerate((46, 70)):
        for each in range(_COPY):
            yield f"spikes.copy{copy}.0.{each}", _site(y, _MIDDLE + each, _BLOCK_RAMS)


def floorplan(configuration: Configuration) -> str:
    """Return Yosys commands that give the cells of a netlist their sites on an ECP5-85: for `large`, also with pairs.

    They end with an error where a cell is missing.
    """
    if configuration.digest not in (LARGE.digest, LARGE_PAIRS.digest):
        return ""
    commands = []
    for cell, site in _sites(configuration.fire_width):
        commands += [f"select -assert-count 1 c:*.{cell}", f'setattr -set BEL "{site}" c:*.{cell}']
    return "\n".join(commands)
