"""Loading a bitstream into a board, with the tool that its owners use."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polyspike.bitstreams import Bitstream
from polyspike.spec import BuildError, FileFormatError

from .board import Board

#: Where the tools come from.
_HINTS = {
    "openFPGALoader": "`apt install openfpgaloader` (Debian, Ubuntu), `brew install openfpgaloader` (macOS), or "
    "https://trabucayre.github.io/openFPGALoader/guide/install.html",
    "dfu-util": "`apt install dfu-util` (Debian, Ubuntu), `brew install dfu-util` (macOS), or "
    "https://dfu-util.sourceforge.net",
    "iceprog": "`apt install fpga-icestorm` (Debian, Ubuntu), `brew install icestorm` (macOS), or "
    "https://github.com/YosysHQ/icestorm",
    "icesprog": "https://github.com/wuxx/icesugar, folder tools",
}


def program(board: type[Board], bitstream: Bitstream, *, flash: bool = False, options: Sequence[str] = ()) -> None:
    """Load a bitstream into a board's FPGA, or write it to the board's flash.

    Parameters
    ----------
    options
        More options for the tool, e.g. which of several cables to use.

    Raises
    ------
    FileFormatError
        The bitstream is of another board.
    BuildError
        The board cannot be loaded that way, or its tool is missing or fails.
    """
    if bitstream.manifest.board != board.name:
        raise FileFormatError(f"the bitstream is of board {bitstream.manifest.board!r}, not {board.name!r}")
    command = board.flash_command if flash else board.load_command
    if not command:
        if board.flash_command and not flash:
            raise BuildError(f"{board.name}: only its flash can be written: add --flash")
        raise BuildError(f"{board.name}: no open tool for that is known here")
    tool = command[0]
    found = shutil.which(tool)
    if found is None:
        hint = _HINTS.get(tool)
        raise BuildError(f"{tool} is not installed" + (f": {hint}" if hint else ""))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / bitstream.manifest.bitstream
        file.write_bytes(bitstream.data)
        arguments = [each.format(file=file) for each in command[1:]]
        status = subprocess.run([found, *options, *arguments], check=False).returncode
    if status != 0:
        raise BuildError(
            f"{tool} ended with status {status}: is {board.name} plugged in, and may you use it? docs/boards.md says "
            "what to do"
        )
