"""docs/boards.md: its tables are current, and its commands are spelled right."""

import re
import shlex
from pathlib import Path

from polyspike.cli import board_tables
from polyspike.cli.main import parser
from polyspike.gateware.boards import BOARDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "boards.md").read_text()


def test_tables_are_current() -> None:
    assert board_tables.page(PAGE) == PAGE, "docs/boards.md is stale: run `make docs`"


def test_every_board_is_described() -> None:
    for name in BOARDS:
        assert f"| `{name}` |" in PAGE


def test_commands_are_spelled_right() -> None:
    """Every `polyspike` line and every one in a sentence parses; files need not be there for that."""
    blocks = re.findall(r"^ *polyspike (.*)$", PAGE, re.MULTILINE)
    sentences = [each for each in re.findall(r"`polyspike ([^`]+)`", PAGE) if "--" in each]
    assert len(blocks) >= 8 and len(sentences) >= 4
    for command in (*blocks, *sentences):
        parser().parse_args(shlex.split(command))
