"""Instruction words: encoding, decoding, what is refused, and the listing."""

import random

import pytest

from polyspike.spec import CompileError, FileFormatError
from polyspike.spec.instructions import (
    FIRE,
    FORMATS,
    HALT,
    RUN,
    SHAPE,
    WEIGHTS,
    WINDOW,
    Field,
    FireKind,
    Format,
    PassMode,
    decode,
    encode,
    make,
)

EVERY = pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)


def legal(format: Format, choose) -> dict[str, int]:
    return {field.name: choose(field.range) for field in format.fields}


def test_opcodes_are_those_of_the_formats() -> None:
    assert {opcode: format.name for opcode, format in FORMATS.items()} == {
        0: "HALT",
        1: "SOURCE",
        2: "WINDOW",
        3: "WEIGHTS",
        4: "OUTPUT",
        5: "SHAPE",
        6: "FIRE",
        8: "RANDOM",
        7: "RUN",
    }


@EVERY
def test_encoding_and_decoding_are_inverse(format: Format) -> None:
    rng = random.Random(format.opcode)
    choices = [lambda r: r[0], lambda r: r[-1], *[rng.choice] * 200]
    for choose in choices:
        values = legal(format, choose)
        word = encode(make(format, **values))
        assert 0 <= word < 1 << 64
        again = decode(word)
        assert again.format is format
        assert again.values == values
        assert encode(again) == word


@EVERY
def test_fields_lie_side_by_side_from_the_opcode_upwards(format: Format) -> None:
    """All fields at all ones fill exactly the bits that their widths add up to."""
    values = {field.name: -1 if field.signed else (1 << field.width) - 1 for field in format.fields}
    width = sum(field.width for field in format.fields)
    assert encode(make(format, **values)) == format.opcode | ((1 << width) - 1) << 4


def test_a_word_by_hand() -> None:
    window = make(
        WINDOW, slot=1, height=28, width=27, kernel_h=3, kernel_w=5, stride_y=2, stride_x=1, pad_y=1, pad_x=-2
    )
    assert encode(window) == (
        2 | 1 << 4 | 28 << 5 | 27 << 15 | 3 << 25 | 5 << 32 | 2 << 39 | 1 << 43 | 1 << 47 | 254 << 55
    )
    assert encode(make(RUN)) == 7
    assert encode(make(HALT)) == 0


@EVERY
def test_values_outside_a_field_are_refused(format: Format) -> None:
    middle = legal(format, lambda r: r[len(r) // 2])
    for field in format.fields:
        low, high = field.range[0], field.range[-1]
        for value in (low - 1, high + 1, 1 << 70):
            message = rf"{format.name}\.{field.name} = {value} does not fit: it takes {low} to {high}$"
            with pytest.raises(CompileError, match=message):
                make(format, **{**middle, field.name: value})


def test_all_fields_must_be_given() -> None:
    with pytest.raises(
        TypeError, match="SHAPE takes height, width, timesteps, tiles, position_log2, passes, pairs, not"
    ):
        make(SHAPE, height=1)
    with pytest.raises(TypeError, match="RUN takes"):
        make(RUN, count=1)


@pytest.mark.parametrize("opcode", range(9, 16))
def test_unknown_opcodes_are_refused(opcode: int) -> None:
    with pytest.raises(FileFormatError, match=f"instruction word 0x0*[0-9a-f]+ has the unknown opcode {opcode}$"):
        decode(0xAB0 | opcode)


def test_a_format_of_more_than_a_word_cannot_be_defined() -> None:
    fits = (Field("a", 30, ""), Field("b", 30, ""))
    assert Format("LONG", 9, "Just fits.", fits)
    with pytest.raises(ValueError, match="instruction LONG has 65 bits"):
        Format("LONG", 9, "One bit too long.", (*fits, Field("c", 1, "")))


def test_the_listing_names_fields_and_modes() -> None:
    weights = make(
        WEIGHTS,
        slot=0,
        mode=PassMode.ELEMENTWISE,
        base=64,
        words=2,
        tile_step=9,
        shared=1,
        wide=0,
        positive=15,
        shift=3,
    )
    assert str(weights) == (
        "WEIGHTS  slot=0 mode=ELEMENTWISE base=64 words=2 tile_step=9 shared=1 wide=0 positive=15 shift=3"
    )
    fire = make(FIRE, kind=FireKind.MEMBRANE, params=17, wide=1, n_neg=8, n_pos=7, rectified=0)
    assert str(fire) == "FIRE     kind=MEMBRANE params=17 wide=1 n_neg=8 n_pos=7 rectified=0"
    assert str(make(RUN)) == "RUN"
    assert str(decode(encode(fire))) == str(fire)
