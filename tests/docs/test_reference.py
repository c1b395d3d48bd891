"""The generated reference pages are those that are committed, and agree with the encoder."""

import re
from pathlib import Path

import pytest

from polyspike.cli import reference
from polyspike.spec import instructions

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_committed_page_is_current(name: str) -> None:
    committed = (FOLDER / name).read_text()
    assert committed == reference.pages()[name], f"docs/reference/{name} is stale: run `make docs`"


def test_no_other_page_is_committed() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == set(reference.pages())


def test_bit_positions_are_those_of_the_encoder() -> None:
    """Set each field to all ones alone, encode it, and look where the bits went."""
    text = reference.pages()["instructions.md"]
    for format in instructions.FORMATS.values():
        section = text.split(f"### {format.name}\n")[1].split("\n#")[0]
        for field in format.fields:
            values = {other.name: 0 for other in format.fields}
            values[field.name] = -1 if field.signed else (1 << field.width) - 1
            word = instructions.encode(instructions.make(format, **values)) ^ format.opcode
            low, high = (word & -word).bit_length() - 1, word.bit_length() - 1
            (bits,) = re.findall(rf"^\| `{field.name}` \| ([0-9.]+) \|", section, re.MULTILINE)
            assert bits == (str(low) if low == high else f"{high}..{low}"), f"{format.name}.{field.name}"
