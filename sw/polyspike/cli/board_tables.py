"""Tables of boards, from their classes, the manifests and the demo network's figures.

`python -m polyspike.cli.board_tables` writes them to docs/boards.md again.
"""

import re
from pathlib import Path

from polyspike import bitstreams
from polyspike.bitstreams import Manifest
from polyspike.bitstreams.demo import demo_figures
from polyspike.gateware.boards import BOARDS, Board
from polyspike.gateware.boards.usb import UsbBoard
from polyspike.spec.uart import FRAME_BITS, LEAST_DIVISOR

from .text import markdown, number, table

#: The page with the tables.
PAGE = Path("docs/boards.md")

#: Bytes a second that a full-speed USB bulk endpoint carries at most: 19 packets of 64 bytes a millisecond.
USB_BYTES_PER_SECOND = 19 * 64 * 1000


def listing() -> str:
    """Return the table of all boards."""
    manifests = bitstreams.manifests()
    rows = []
    for name, board in BOARDS.items():
        manifest = manifests.get(name)
        instance = board()
        row = [name, instance.device, link(board), instance.configuration.name, f"{instance.clock_hz / 1e6:.1f}"]
        if manifest is None:
            row += ["-"] * 6
        else:
            used = manifest.utilization
            row += [f"{manifest.fmax_mhz:.1f}", *(number(each) for each in (used.lut, used.ff, used.dsp, used.bram))]
            row.append(manifest.sha256[:12])
        rows.append(row)
    headings = ("board", "part", "link", "configuration", "MHz", "Fmax", "LUT", "FF", "DSP", "BRAM", "bitstream")
    return table(headings, rows, left=4)


def measured() -> str:
    """Return the table of what was built, in Markdown."""
    headings = (
        *("board", "configuration", "multiplier", "columns x lanes", "clock MHz", "Fmax MHz", "LUT", "DSP", "BRAM"),
        *("cycles an image", "images/s at Fmax", "over the link"),
    )
    figures = demo_figures()
    rows = []
    for name, manifest in bitstreams.manifests().items():
        hardware, used = manifest.configuration, manifest.utilization
        row = [
            name,
            hardware.name,
            "DSP" if used.dsp else "LUT",
            f"{hardware.columns} x {hardware.lanes}",
            f"{manifest.clock_hz / 1e6:.1f}",
            f"{manifest.fmax_mhz:.1f}",
            *(number(each) for each in (used.lut, used.dsp, used.bram)),
        ]
        demo = figures.get(manifest.digest)
        if demo is None:
            row += ["", "", ""]
        else:
            core = manifest.fmax_mhz * 1e6 / demo.cycles_per_image
            bytes_per_second = link_rate(BOARDS[name], manifest)
            over_link = bytes_per_second / max(demo.sent_per_image, demo.received_per_image)
            row += [number(round(demo.cycles_per_image)), _rate(core), _rate(min(core, over_link))]
        rows.append(row)
    return markdown(headings, rows, left=4)


def _rate(value: float) -> str:
    return number(round(value)) if value >= 100 else f"{value:.1f}"


def link(board: type[Board]) -> str:
    """Return what a board's link is, for people."""
    return f"{board.link}, {_baud(board.fastest_baud)}" if board.fastest_baud else board.link


def _baud(baud: int) -> str:
    return f"{baud / 1e6:g} Mbaud"


def link_rate(board: type[Board], manifest: Manifest) -> float:
    """Return the bytes a second that a board's link carries in each direction at its fastest rate."""
    if issubclass(board, UsbBoard):
        return USB_BYTES_PER_SECOND
    return min(board.fastest_baud, manifest.clock_hz // LEAST_DIVISOR) / FRAME_BITS


def described() -> str:
    """Return the table of the boards' parts, links, lights and commands, in Markdown."""
    rows = []
    for name, board in BOARDS.items():
        leds = board.leds
        lights = [
            " + ".join(f"`{each}`" for each in each_state) for each_state in (leds.idle, leds.running, leds.error)
        ]
        commands = [
            " ".join(command).replace("{file}", "FILE") for command in (board.load_command, board.flash_command)
        ]
        rows.append(
            (f"`{name}`", board().device, link(board), *lights, *(f"`{each}`" if each else "" for each in commands))
        )
    return markdown(("board", "part", "link", "idle", "running", "error", "loads", "`--flash`"), rows, left=8)


def page(text: str) -> str:
    """Return the text of docs/boards.md with its tables as they are now."""
    for name, content in (("measured", measured()), ("boards", described())):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, content=content: f"{match[1]}{content}\n{match[2]}",  # type: ignore[misc]
            text,
            count=1,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
