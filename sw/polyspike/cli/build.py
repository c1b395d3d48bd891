"""`polyspike build`: a board's bitstream, with open tools."""

import argparse
import sys
import time
from pathlib import Path

from .arguments import positive

NAME = "build"
SUMMARY = "build a board's bitstream: synthesis, place and route"
DESCRIPTION = """\
Synthesize the accelerator for a board, place and route it, and write the bitstream with its manifest. The tools come
from PyPI: `pip install polyspike[boards]`.

Writes to the output folder: the tools' input files, build.sh, which does the same as this command, and their logs;
a folder for every seed; and in the end manifest.json and BOARD.psbit, which `polyspike program` loads.
"""
EPILOG = """\
A board of your own is one small class (docs/boards.md), given as FILE.py:CLASS.

examples:
  polyspike build --board ulx3s-85f
  polyspike build --board ulx3s-85f --seeds 4 --jobs 2
  polyspike build --board icebreaker --output build/icebreaker
  polyspike build --board myboard.py:MyBoard --config small --freq 50
  polyspike build --board arty-a7 --no-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--board", required=True, metavar="NAME", help="a board of `polyspike boards`, or FILE.py:CLASS"
    )
    parser.add_argument("--config", metavar="NAME", help="hardware configuration (default: the board's)")
    parser.add_argument(
        "--config-file", type=Path, metavar="FILE.json", help="hardware configuration of your own, as JSON"
    )
    parser.add_argument("--freq", type=float, metavar="MHz", help="clock (default: the board's)")
    parser.add_argument(
        "--target", type=float, metavar="MHz", help="what place and route is asked for (default: the clock)"
    )
    parser.add_argument(
        "--seed", type=positive, metavar="N", help="first seed (default: that of the released bitstream, or 1)"
    )
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="seeds to try; the best one is kept")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="seeds at a time (default: 1)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder (default: build/boards/BOARD)")
    parser.add_argument(
        "--no-run", action="store_true", help="only write Verilog, constraints and scripts (or project files)"
    )
    parser.add_argument("--release", action="store_true", help="put the result among those that come with polyspike")
    parser.add_argument(
        "--if-needed", action="store_true", help="do nothing if the released one is of these very inputs and tools"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike import bitstreams
    from polyspike.gateware.boards import build, find

    from .configurations import chosen
    from .text import table

    configuration = chosen(options.config, options.config_file)
    hz, target = (None if mhz is None else round(mhz * 1e6) for mhz in (options.freq, options.target))
    board = find(options.board)(configuration, hz, target)
    folder: Path = options.output or Path("build", "boards", board.name)
    released = bitstreams.manifests().get(board.name)
    first = options.seed or (released.seed if released is not None and options.seeds == 1 else 1)
    seeds = range(first, first + options.seeds)
    if options.no_run:
        build.write(board, build.generate(board, verilog=True), folder, seeds)
        print(f"{board.name}, {board.configuration.name}, {board.clock_hz / 1e6:.2f} MHz: files are in {folder}")
        return 0
    progress = None if options.quiet else Progress()
    try:
        inputs = build.generate(board, progress=progress)
        if options.if_needed and released is not None and build.is_current(board, inputs, released):
            print(f"{board.name}: the released bitstream is of these inputs and tools")
            return 0
        result = build.build(board, folder, seeds, options.jobs, progress, inputs)
    finally:
        if progress is not None:
            progress.end()
    bitstreams.save(result.bitstream, folder)
    if options.release:
        bitstreams.release(result.bitstream)
    manifest = result.bitstream.manifest
    used = manifest.utilization
    print(
        table(
            ("board", "configuration", "seed", "clock MHz", "Fmax MHz", "LUT", "FF", "DSP", "BRAM", "seconds"),
            [
                (
                    *(manifest.board, manifest.configuration.name, str(manifest.seed)),
                    *(f"{manifest.clock_hz / 1e6:.2f}", f"{manifest.fmax_mhz:.2f}"),
                    *(f"{count:,}" for count in (used.lut, used.ff, used.dsp, used.bram)),
                    f"{manifest.build_seconds:.0f}",
                )
            ],
            left=2,
        )
    )
    if len(result.seeds) > 1:
        print("Fmax by seed: " + ", ".join(f"{seed}: {fmax:.2f}" for seed, fmax in sorted(result.seeds.items())))
    print(f"sha256 {manifest.sha256}")
    print(folder / f"{board.name}{bitstreams.SUFFIX}")
    return 0


class Progress:
    """One line a stage; on a terminal, with what the tool is at, rewritten as it goes."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.started = time.monotonic()
        self.stages: set[str] = set()
        self.shown = 0.0

    def __call__(self, stage: str, seconds: float, detail: str) -> None:
        """Show how far a stage is."""
        now = time.monotonic()
        text = f"{now - self.started:6.0f} s  {stage:24}"
        if detail == "done":
            self._line(f"{text}  done in {seconds:.0f} s", "\n")
        elif self.live:
            if stage not in self.stages or now - self.shown > 0.2:
                self.shown = now
                self._line(f"{text}  {detail}", "")
        elif stage not in self.stages:
            self._line(text.rstrip(), "\n")
        self.stages.add(stage)

    def _line(self, text: str, end: str) -> None:
        print(f"\r\x1b[K{text[:100]}" if self.live else text, end=end, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the terminal at the start of a line."""
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
