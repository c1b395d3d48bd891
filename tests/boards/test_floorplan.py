"""The floorplan of `large` on an ECP5-85: memories and multipliers have places of their own, near their column's."""

import re

import pytest

from polyspike.gateware.boards.catalogue import BOARDS
from polyspike.gateware.boards.floorplan import floorplan
from polyspike.spec.configuration import LARGE, SMALL

#: What `large` has of each: of weights and products one a lane and column, of parameters four a column.
WEIGHTS = PRODUCTS = 16 * 8
PARAMETERS = 4 * 8
COPIES = 16 * 2


def places(commands: str) -> dict[str, tuple[int, int, str]]:
    """Return the place of each cell that Yosys is told: column and row of the device, and the site there."""
    found = re.findall(r'^setattr -set BEL "X(\d+)/Y(\d+)/(\w+)" c:\*\.(\S+)$', commands, re.MULTILINE)
    assert len(found) == len({cell for *_, cell in found})
    return {cell: (int(x), int(y), site) for x, y, site, cell in found}


def test_every_cell_has_a_site_of_its_own() -> None:
    sites = places(floorplan(LARGE))
    assert len(sites) == WEIGHTS + PRODUCTS + PARAMETERS + COPIES
    assert len(set(sites.values())) == len(sites)
    for cell, (x, y, site) in sites.items():
        # Rows and the part's width as the vendor's drawing of the LFE5U-85 has them: 4 rows of 52 block RAMs, 3 of
        # 13 slices with 4 multipliers.
        is_product = cell.endswith(".multiplier")
        assert y in ((10, 34, 58) if is_product else (22, 46, 70, 82))
        assert 2 <= x <= 124
        assert re.fullmatch(r"MULT18_[0145]" if is_product else r"EBR[0-3]", site)


def test_a_column_stays_together() -> None:
    sites = places(floorplan(LARGE))
    for column in range(8):
        mine = [place for cell, place in sites.items() if cell.startswith(f"column{column}.")]
        assert len(mine) == 36
        xs, ys = ([place[axis] for place in mine] for axis in range(2))
        assert max(xs) - min(xs) <= 45
        assert (max(ys) <= 46) if column % 2 == 0 else (min(ys) >= 34)


def test_each_cell_has_to_be_there_once() -> None:
    lines = floorplan(LARGE).splitlines()
    for check, place in zip(lines[::2], lines[1::2], strict=True):
        assert check == f"select -assert-count 1 {place.rpartition(' ')[2]}"


def test_other_configurations_go_without() -> None:
    assert floorplan(SMALL) == floorplan(LARGE.replace(weight_depth=1024)) == ""


@pytest.mark.parametrize("name,wanted", [("ulx3s-85f", 1), ("ecpix5-85f", 1), ("orangecrab-85f", 1), ("ulx3s-25f", 0)])
def test_boards_with_that_part_have_it(name: str, wanted: int) -> None:
    script = BOARDS[name]().overrides().get("script_after_synth", "")
    assert script.count("setattr -set BEL") == (WEIGHTS + PRODUCTS + PARAMETERS + COPIES) * wanted
