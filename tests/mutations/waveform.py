"""Draw what a planted fault does: the picture in docs/verification.md, from two simulations.

`make docs`, or `PYTHONPATH=tests python -m mutations.waveform`. The gather is simulated with the fault and
without it; its signals are read from the VCD files and drawn with the fault, in red where the other simulation has
something else.
"""

import argparse
import dataclasses
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from amaranth.sim import Simulator

from polyspike.cosim.streams import no_stalls, send
from polyspike.gateware.gather import Gather
from polyspike.spec import TINY, PolyspikeError
from polyspike.spec.instructions import PassMode

from .catalogue import MUTATIONS
from .mutation import ROOT, Mutation, planted

PICTURE = ROOT / "docs" / "verification" / "mismatch.svg"
MUTATION = "Gather/descriptor-of-next-word"


@dataclasses.dataclass(frozen=True)
class Row:
    """A signal to draw: its name in the VCD file, and how its values are written."""

    signal: str
    signed: bool = False
    hexadecimal: bool = False

    def text(self, value: int, width: int) -> str:
        """Return a value as it is written into the picture."""
        if self.hexadecimal:
            return f"{value:x}"
        return str(value - (1 << width) if self.signed and value >> (width - 1) else value)


ROWS = (
    Row("fetched__valid"),
    Row("fetched__ready"),
    Row("fetched__payload.word", hexadecimal=True),
    Row("fetched__payload.slot"),
    Row("current.slot"),
    Row("chosen.slot"),
    Row("chosen.index"),
    Row("event__valid"),
    Row("event__payload.count", signed=True),
    Row("event__payload.last"),
)

#: Words of two passes: narrow counts from -3 to 12, then from 0 to 15; 0xd is -3 in the one and 13 in the other.
PASSES = ({"mode": PassMode.BROADCAST, "positive": 12}, {"mode": PassMode.BROADCAST, "positive": 15})
WORDS = (
    {"word": 0xD_0003, "marks": 0b1_0001, "several": 1, "slot": 0},
    {"word": 0xD_00D2, "marks": 0b1_0011, "several": 1, "slot": 1, "last": 1},
)
CYCLES = 9


def simulate(path: Path) -> None:
    """Let two words pass through a gather, and write a VCD file."""
    unit = Gather(TINY)
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)

    async def feed(ctx: Any) -> None:
        for weights, fields in zip(unit.weights, PASSES, strict=True):
            for name, value in fields.items():
                ctx.set(getattr(weights, name), value)
        ctx.set(unit.event.ready, 1)
        await send(ctx, unit.fetched, WORDS, no_stalls())
        await ctx.tick().repeat(CYCLES)

    simulator.add_testbench(feed)
    with simulator.write_vcd(str(path)):
        simulator.run()


def read(path: Path) -> dict[str, tuple[int, list[int]]]:
    """Return each signal's width and its values, one for each cycle: what it is when the clock rises."""
    head, _, body = path.read_text().partition("$enddefinitions $end")
    names: dict[str, list[tuple[str, int]]] = {}
    for width, code, name in re.findall(r"\$var \S+ (\d+) (\S+) \\?(\S+)[^$]*\$end", head):
        names.setdefault(code, []).append((name, int(width)))
    now = dict.fromkeys(names, 0)
    found: dict[str, tuple[int, list[int]]] = {name: (width, []) for each in names.values() for name, width in each}
    clock = next(code for code, each in names.items() if ("clk", 1) in each)
    # All changes of one time come together; the clock's rise is seen with what was there before it.
    for moment in re.split(r"^#\d+$", body, flags=re.MULTILINE):
        changed = re.findall(r"^b?([01]+) ?(\S+)$", moment, flags=re.MULTILINE)
        changes = {code: int(value, 2) for value, code in changed}
        if changes.get(clock):
            for code, each in names.items():
                for name, _ in each:
                    found[name][1].append(now[code])
        now |= changes
    return found


def draw(mutation: Mutation, faulty: dict[str, tuple[int, list[int]]], good: dict[str, tuple[int, list[int]]]) -> str:
    """Return the picture: a row a signal, a column a cycle."""
    left, top, step, height = 190, 64, 70, 30
    width, bottom = left + CYCLES * step + 20, top + height * len(ROWS)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 34}" '
        'font-family="DejaVu Sans Mono, monospace" font-size="12" role="img" aria-labelledby="title">',
        f'  <title id="title">The gather with a planted fault: {escape(mutation.fault)}</title>',
        "  <style>",
        "    .wire { stroke: #37474f; stroke-width: 1.5; fill: none; }",
        "    .wrong { stroke: #c62828; fill: #ffcdd2; stroke-width: 1.5; }",
        "    .grid { stroke: #cfd8dc; stroke-width: 1; }",
        "    .mid { text-anchor: middle; } .end { text-anchor: end; } .red { fill: #b71c1c; font-weight: bold; }",
        "    .head { font-family: DejaVu Sans, Verdana, sans-serif; font-size: 14px; }",
        "  </style>",
        f'  <rect width="{width}" height="{bottom + 34}" fill="#ffffff"/>',
        f'  <text class="head" x="12" y="24">{escape(mutation.id)}: {escape(mutation.fault)}</text>',
        f'  <text class="end" x="{left - 12}" y="{top - 10}">cycle</text>',
    ]
    for cycle in range(CYCLES):
        x = left + cycle * step
        lines.append(f'  <path class="grid" d="M{x} {top - 4} V{bottom}"/>')
        lines.append(f'  <text class="mid" x="{x + step // 2}" y="{top - 10}">{cycle}</text>')
    for index, row in enumerate(ROWS):
        high, low = top + index * height + 5, top + (index + 1) * height - 5
        middle = (high + low) // 2 + 4
        bits, values = faulty[row.signal]
        right = good[row.signal][1]
        lines.append(f'  <text class="end" x="{left - 12}" y="{middle}">{escape(row.signal.replace("__", "."))}</text>')
        for cycle in range(CYCLES):
            x, value = left + cycle * step, values[cycle]
            wrong = value != right[cycle]
            style = "wrong" if wrong else "wire"
            if bits == 1:
                if wrong:
                    lines.append(f'  <rect class="wrong" x="{x}" y="{high}" width="{step}" height="{low - high}"/>')
                level = high if value else low
                before = (high if values[cycle - 1] else low) if cycle else level
                lines.append(f'  <path class="wire" d="M{x} {before} V{level} H{x + step}"/>')
                continue
            lines.append(
                f'  <path class="{style}" d="M{x} {(high + low) // 2} L{x + 4} {high} H{x + step - 4} '
                f'L{x + step} {(high + low) // 2} L{x + step - 4} {low} H{x + 4} Z"/>'
            )
            text = row.text(value, bits) + (f" ({row.text(right[cycle], bits)})" if wrong else "")
            lines.append(f'  <text class="mid{" red" if wrong else ""}" x="{x + step // 2}" y="{middle}">{text}</text>')
    lines.append(
        f'  <text class="red" x="12" y="{bottom + 22}">Red: not what the gateware without the fault has, '
        "which is in parentheses.</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def simulated(mutation: Mutation | None, folder: Path) -> dict[str, tuple[int, list[int]]]:
    """Simulate a copy of the gateware in a process of its own."""
    path = folder / "waves.vcd"
    with planted(mutation) as copy:
        command = [sys.executable, "-m", "mutations.waveform", "--simulate", str(path)]
        subprocess.run(command, check=True, env=copy.environment, cwd=ROOT)
    return read(path)


def picture() -> str:
    """Simulate both and return the picture."""
    (mutation,) = (each for each in MUTATIONS if each.id == MUTATION)
    with tempfile.TemporaryDirectory() as name:
        return draw(mutation, simulated(mutation, Path(name)), simulated(None, Path(name)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture; or simulate the gateware that Python finds first, and write what happens."""
    parser = argparse.ArgumentParser(prog="waveform", description="Draw what a planted fault does.")
    parser.add_argument("--simulate", type=Path, metavar="FILE", help="only simulate, and write a VCD file")
    options = parser.parse_args(arguments)
    if options.simulate:
        simulate(options.simulate)
        return
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture())
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except PolyspikeError as error:
        sys.exit(f"error: {error}")
