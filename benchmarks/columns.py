"""Look-up tables of columns, each synthesized for an ECP5 by itself: what `polyspike explore` predicts others from.

    python benchmarks/columns.py

Writes sw/polyspike/explore/columns.json. A carry cell takes two look-up tables, a distributed RAM of 16 x 4 bits six.
"""

import json

from features import cells, count
from subjects import ROOT
from tqdm import tqdm

from polyspike.gateware.boards.families import before_synthesis
from polyspike.gateware.column import Column
from polyspike.spec import LARGE, Configuration

OUTPUT = ROOT / "sw" / "polyspike" / "explore" / "columns.json"

#: What differs from `LARGE`.
CHANGES: tuple[dict[str, int], ...] = (
    {},
    {"lanes": 8},
    {"fire_width": 1},
    {"lanes": 8, "fire_width": 1},
    {"fabric_lanes": 8},
    {"weight_depth": 1024, "param_depth": 512, "spike_depth": 2048},
    {"negative_threshold": 1},
    {"probabilistic": 1},
    {"pairs": 1},
    {"pairs": 1, "lanes": 8},
    {"pairs": 1, "fire_width": 1},
    {"pairs": 1, "lanes": 8, "fire_width": 1},
)

#: Look-up tables that a cell takes the place of.
CELLS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}


def look_up_tables(configuration: Configuration) -> int:
    """Synthesize a column."""
    statistics = cells(Column(configuration), "synth_ecp5", before=before_synthesis(configuration))
    return sum(number * count(statistics, cell) for cell, number in CELLS.items())


def main() -> None:
    """Run it."""
    rows = []
    for changes in tqdm(CHANGES, unit="column"):
        configuration = LARGE.replace(**changes)
        rows.append({"configuration": configuration.to_dict(), "lut": look_up_tables(configuration)})
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
