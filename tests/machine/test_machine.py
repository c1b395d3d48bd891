"""The instruction-set simulator against results computed by hand."""

import numpy as np
import pytest

from machine.running import execute
from polyspike.machine import Machine
from polyspike.spec import LARGE, TINY, DeviceError
from polyspike.spec.instructions import (
    FIRE,
    HALT,
    OUTPUT,
    RANDOM,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    PassMode,
    RandomValue,
    make,
)
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, MAGIC

SOURCE_DEFAULTS = {"slot": 0, "origin": 0, "row_pitch": 1, "pixel_pitch": 1, "time_pitch": 0}
WINDOW_DEFAULTS = {
    "slot": 0, "height": 1, "width": 1, "kernel_h": 1, "kernel_w": 1, "stride_y": 1, "stride_x": 1, "pad_y": 0,
    "pad_x": 0,
}  # fmt: skip
WEIGHTS_DEFAULTS = {
    "slot": 0, "mode": PassMode.BROADCAST, "base": 0, "words": 1, "tile_step": 0, "shared": 0, "wide": 0,
    "positive": 15, "shift": 0,
}  # fmt: skip
OUTPUT_DEFAULTS = {"base": 512, "row_pitch": 64, "pixel_pitch": 16, "time_pitch": 256}
SHAPE_DEFAULTS = {"height": 1, "width": 1, "timesteps": 1, "tiles": 1, "position_log2": 0, "passes": 1, "pairs": 0}
FIRE_DEFAULTS = {"kind": FireKind.MEMBRANE, "params": 0, "wide": 0, "n_neg": 0, "n_pos": 15, "rectified": 0}


def program(source=None, window=None, weights=None, output=None, shape=None, fire=None, second=None):
    """Instructions of one RUN: defaults with some fields changed. `second` describes another pass."""
    code = [
        make(SOURCE, **SOURCE_DEFAULTS | (source or {})),
        make(WINDOW, **WINDOW_DEFAULTS | (window or {})),
        make(WEIGHTS, **WEIGHTS_DEFAULTS | (weights or {})),
        make(OUTPUT, **OUTPUT_DEFAULTS | (output or {})),
        make(SHAPE, **SHAPE_DEFAULTS | (shape or {})),
        make(FIRE, **FIRE_DEFAULTS | (fire or {})),
    ]
    if second is not None:
        code += [
            make(SOURCE, **SOURCE_DEFAULTS | {"slot": 1} | second[0]),
            make(WINDOW, **WINDOW_DEFAULTS | {"slot": 1}),
            make(WEIGHTS, **WEIGHTS_DEFAULTS | {"slot": 1} | second[1]),
        ]
    return [*code, make(RUN)]


def write_row(machine, row, values, mask=1):
    data = np.array(values, np.int8)
    words = data.view("<u8")
    machine.write(Space.WEIGHTS, mask, row * len(words), words)


def write_params(machine, channel, theta, bias, v0, mask=1):
    words = [(bias & 0xFFFFFFFF) << 32 | theta, v0 & 0xFFFFFFFF]
    machine.write(Space.PARAMS, mask, 2 * channel, words)


def values(machine, address, count):
    return machine.read(Space.SPIKES, address, (count + 1) // 2).astype("<u8").view("<i4")[:count].tolist()


@pytest.fixture
def machine():
    return Machine(TINY)


def test_broadcast_adds_a_weight_row_for_every_nonzero_count(machine):
    machine.write(Space.SPIKES, 0, 0, [0x00F0_0000_0000_0030])  # count 3 in channel 1, code 15 in channel 13
    write_row(machine, 5 + 1, [1, 2, 3, 4, 5, 6, 7, -8])
    write_row(machine, 5 + 13, [10] * 8)
    execute(machine, program(weights={"base": 5, "positive": 15, "shift": 1}))
    assert values(machine, 512, 8) == [2 * (3 * w + 150) for w in (1, 2, 3, 4, 5, 6, 7, -8)]
    execute(machine, program(weights={"base": 5, "positive": 14}))  # now code 15 means -1
    assert values(machine, 512, 8) == [3 * w - 10 for w in (1, 2, 3, 4, 5, 6, 7, -8)]
    assert [machine.columns[0].events, machine.columns[0].words, machine.columns[0].zero_words] == [4, 2, 0]


def test_wide_counts(machine):
    machine.write(Space.SPIKES, 0, 0, [0xFE00_0000_0000_0064])  # 100 in channel 0, 254 or -2 in channel 7
    write_row(machine, 0, [1] * 8)
    write_row(machine, 7, [2] * 8)
    execute(machine, program(weights={"wide": 1, "positive": 127}))
    assert values(machine, 512, 8) == [100 - 4] * 8
    execute(machine, program(weights={"wide": 1, "positive": 254}))
    assert values(machine, 512, 8) == [100 + 508] * 8


def test_window_stride_and_padding(machine):
    # A source of 2 x 3 pixels with count 10 * y + x + 1 in channel 0, a 2 x 2 window with weights 1, 10, 100 and -1.
    for y in range(2):
        machine.write(Space.SPIKES, 0, 100 + 3 * y, [3 * y + x + 1 for x in range(3)])
    for tap, weight in enumerate((1, 10, 100, -1)):
        write_row(machine, 16 * tap, [weight] * 8)
    execute(
        machine,
        program(
            source={"origin": 100 - 1 - 3, "row_pitch": 3, "pixel_pitch": 1},
            window={"height": 2, "width": 3, "kernel_h": 2, "kernel_w": 2, "stride_x": 2, "pad_y": 1, "pad_x": 1},
            shape={"height": 3, "width": 2},
            output={"row_pitch": 16, "pixel_pitch": 4},
        ),
    )
    found = [[values(machine, 512 + 16 * y + 4 * x, 1)[0] for x in range(2)] for y in range(3)]
    assert found == [[-1, 200 - 3], [10 * 1 - 4, 2 + 30 + 500 - 6], [40, 5 + 60]]


def test_shared_taps_use_one_set_of_rows(machine):
    machine.write(Space.SPIKES, 0, 0, [1, 2, 3])
    write_row(machine, 0, [5] * 8)
    execute(machine, program(window={"width": 3, "kernel_w": 3}, weights={"shared": 1}))
    assert values(machine, 512, 8) == [30] * 8


def test_elementwise_takes_the_half_word_of_its_tile(machine):
    machine.write(Space.SPIKES, 0, 0, [0xFEDC_BA98_7654_3210])
    write_row(machine, 0, [1] * 8)
    write_row(machine, 1, [2] * 8)
    weights = {"mode": PassMode.ELEMENTWISE, "tile_step": 1, "positive": 7}
    execute(machine, program(weights=weights, shape={"tiles": 2}))
    assert values(machine, 512, 16) == [*range(8), *(2 * (code - 16) for code in range(8, 16))]
    assert machine.columns[0].events == 2


def test_maximum_ignores_taps_outside(machine):
    machine.write(Space.SPIKES, 0, 0, [0x0D, 0x0C, 0xFF_FFFF_FFFF_FFFE])
    for channel in range(8):
        write_params(machine, channel, 1, 0, 0)
    execute(
        machine,
        program(
            source={"origin": 65535},
            window={"width": 3, "kernel_w": 2, "stride_x": 2, "pad_x": 1},
            weights={"mode": PassMode.MAXIMUM, "positive": 7},
            shape={"width": 2},
            output={"pixel_pitch": 1},
            fire={"kind": FireKind.SPIKE, "n_neg": 8, "n_pos": 7},
        ),
    )
    # -3 alone; then the larger of -4 and -2, and of 0 and -1.
    assert machine.read(Space.SPIKES, 512, 2).tolist() == [0x0000_000D, 0x0000_000E]


def test_raw_sums_continue_in_a_second_pass(machine):
    sums = np.array([-5, 6, -7, 8, 1 << 20, 0, 0, 1], "<i4")
    machine.write(Space.SPIKES, 0, 40, sums.view("<u8"))
    machine.write(Space.SPIKES, 0, 0, [2])
    write_row(machine, 0, [1, 2, 3, 4, 5, 6, 7, 8])
    raw = ({"origin": 40}, {"mode": PassMode.RAW, "words": 4})
    execute(machine, program(shape={"passes": 2}, fire={"kind": FireKind.RAW}, second=raw))
    assert values(machine, 512, 8) == [int(s) + 2 * w for s, w in zip(sums, range(1, 9), strict=True)]


def test_spikes_reset_softly_and_respect_the_limits(machine):
    # Sum is 2 * weight at both timesteps; v0 1, bias -1, theta 10.
    machine.write(Space.SPIKES, 0, 0, [2])
    write_row(machine, 0, [0, 5, 12, 127, -3, -40, -127, 20])
    for channel in range(8):
        write_params(machine, channel, 10, -1, 1)
    fire = {"kind": FireKind.SPIKE, "n_neg": 8, "n_pos": 7}
    execute(machine, program(shape={"timesteps": 2}, fire=fire))
    first, second = (machine.read(Space.SPIKES, 512 + 256 * t, 1)[0] for t in range(2))

    def counts(word):
        codes = [int(word) >> 4 * k & 15 for k in range(8)]
        return [code - 16 if code > 7 else code for code in codes]

    # v at t = 0: 0, 10, 24, 254, -6, -80, -254, 40; what remains is carried on.
    assert counts(first) == [0, 1, 2, 7, -1, -8, -8, 4]
    # v at t = 1: -1, 9, 4 + 23, 184 + 253, 4 - 7, 0 - 81, -174 - 255, 39
    assert counts(second) == [-1, 0, 2, 7, -1, -8, -8, 3]
    execute(machine, program(shape={"timesteps": 2}, fire={**fire, "rectified": 1}))
    assert counts(machine.read(Space.SPIKES, 512, 1)[0]) == [0, 1, 2, 7, 0, 0, 0, 4]
    # Channel 4 has emitted nothing, so it owes nothing; channel 0 has v = -1 and emitted nothing either.
    assert counts(machine.read(Space.SPIKES, 768, 1)[0]) == [0, 0, 2, 7, 0, 0, 0, 3]


def test_half_words_leave_the_other_half_alone(machine):
    machine.write(Space.SPIKES, 0, 512, [0xAAAA_AAAA_AAAA_AAAA])
    machine.write(Space.SPIKES, 0, 0, [1])
    write_row(machine, 0, [3] * 8)
    for channel in range(8):
        write_params(machine, channel, 1, 0, 0)
    execute(machine, program(fire={"kind": FireKind.SPIKE}))
    assert int(machine.read(Space.SPIKES, 512, 1)[0]) == 0xAAAA_AAAA_3333_3333


def test_columns_share_tiles_or_positions():
    for position_log2 in range(4):
        machine = Machine(LARGE)
        positions = 1 << position_log2
        groups = 8 // positions
        for x in range(5):
            machine.write(Space.SPIKES, 0, x, [x + 1])
        for group in range(groups):
            mask = ((1 << positions) - 1) << group * positions
            for round_ in range(-(-3 // groups)):
                write_row(machine, round_, [10 * (round_ * groups + group) + 1] * 16, mask)
        execute(
            machine,
            program(
                source={"pixel_pitch": 1},
                window={"width": 5},
                weights={"tile_step": 1, "words": 1},
                shape={"width": 5, "tiles": 3, "position_log2": position_log2},
                output={"pixel_pitch": 32},
            ),
        )
        for x in range(5):
            wanted = [(x + 1) * (10 * tile + 1) for tile in range(3) for _ in range(16)]
            assert values(machine, 512 + 32 * x, 48) == wanted
        assert sum(column.events for column in machine.columns) == 15
        assert (
            machine.cycles == max(column.events for column in machine.columns) == -(-3 // groups) * -(-5 // positions)
        )


def test_addresses_and_rows_wrap_at_16_bits(machine):
    machine.write(Space.SPIKES, 0, 3, [0x10])
    write_row(machine, 1, [7] * 8)
    # Origin 65530 + 9 taps ends at word 3; weight row 65535 - 15 + 16 taps wraps to row 1.
    execute(
        machine,
        program(
            source={"origin": 65530},
            window={"height": 1, "width": 12, "kernel_w": 10, "pad_x": 0},
            weights={"base": 65536 - 9 * 16, "positive": 15},
        ),
    )
    assert values(machine, 512, 8) == [7] * 8


def test_overflow_and_bad_programs_are_refused(machine):
    machine.write(Space.SPIKES, 0, 0, [0xFFFF_FFFF_FFFF_FFFF] * 40)
    for row in range(16):
        write_row(machine, row, [127] * 8)
    big = program(window={"width": 40, "kernel_w": 40}, weights={"shared": 1, "shift": 3})
    with pytest.raises(DeviceError, match="left its 24 bits"):
        execute(machine, big)
    with pytest.raises(DeviceError, match="reads and writes spike word 0"):
        execute(machine, program(output={"base": 0}))
    with pytest.raises(DeviceError, match="threshold of tile 0 is 0"):
        execute(machine, program(fire={"kind": FireKind.SPIKE}))
    with pytest.raises(DeviceError, match="position_log2 = 1 is too large"):
        execute(machine, program(shape={"position_log2": 1}))


def test_host_accesses(machine):
    assert machine.read(Space.REGISTERS, 0, 2).tolist() == [MAGIC, int(TINY.digest, 16)]
    with pytest.raises(DeviceError, match="SPIKES has no words 1000 to 1099"):
        machine.write(Space.SPIKES, 0, 1000, [0] * 100)
    with pytest.raises(DeviceError, match="WEIGHTS cannot be read"):
        machine.read(Space.WEIGHTS, 0, 1)
    with pytest.raises(DeviceError, match="register 0 cannot be written"):
        machine.write(Space.REGISTERS, 0, 0, [1])
    machine.write(Space.SPIKES, 0, 0, [1])
    execute(machine, [*program(), make(HALT), *program()])
    events = BY_NAME["EVENTS"].address
    assert machine.read(Space.REGISTERS, events, 1).tolist() == [1]
    machine.run(0, 0)
    assert machine.read(Space.REGISTERS, events, 1).tolist() == [2]
    machine.write(Space.REGISTERS, 0, BY_NAME["COUNTERS_CLEAR"].address, [1])
    assert machine.read(Space.REGISTERS, events, 1).tolist() == [0]


def test_random_firing_by_hand():
    machine = Machine(TINY.replace(probabilistic=1))
    # v is 1 + 2 * (2 * weight - 1), theta 10, and both numbers of every channel are 0x8000: a half.
    machine.write(Space.SPIKES, 0, 0, [2])
    write_row(machine, 0, [0, 1, 2, 3, 5, 6, 20, -1])
    for channel in range(8):
        write_params(machine, channel, 10, -1, 1)
    # With the highest tap alone, a register of 16 bits turns, and comes back after each number.
    values_ = {RandomValue.TAPS: 0x8000, RandomValue.FIRST: 0x8000}
    jump = 1 << 31  # to where it is
    values_ |= {RandomValue.POSITION: jump, RandomValue.TIMESTEP: jump}
    machine.write(Space.PARAMS, 1, 1, [jump << 32 | 1])
    code = [make(RANDOM, which=which, value=value) for which, value in values_.items()]
    execute(machine, [*code, *program(shape={"timesteps": 2}, fire={"kind": FireKind.PROBABILISTIC})])
    first, second = (int(machine.read(Space.SPIKES, 512 + 256 * t, 1)[0]) & 0xFFFFFFFF for t in range(2))
    # v is -1, 3, 7, 11, 19, 23, 79, -5; at t = 0 more than 10 fires, at t = 1 more than 5 of what is left.
    assert first == 0x01111000
    assert second == 0x01110100


def test_random_firing_is_refused_where_there_is_none(machine):
    for channel in range(8):
        write_params(machine, channel, 10, 0, 0)
    with pytest.raises(DeviceError, match="configuration 'tiny' has no probabilistic neurons"):
        execute(machine, program(fire={"kind": FireKind.PROBABILISTIC}))
    with pytest.raises(DeviceError, match="configuration 'tiny' has no probabilistic neurons"):
        execute(machine, [make(RANDOM, which=0, value=0)])
