"""Pairs of positions against single ones: the same memory afterwards, and events as a plain loop counts them."""

import itertools
import math

import numpy as np
import pytest

from machine.running import execute
from polyspike.machine import Machine
from polyspike.spec import LARGE, DeviceError
from polyspike.spec.instructions import (
    FIRE,
    OUTPUT,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    PassMode,
    make,
)
from polyspike.spec.memory import Space

PAIRS = LARGE.replace(name="pairs", columns=4, spike_depth=1024, weight_depth=512, param_depth=64, pairs=1)

#: Words of a source: [3 timesteps][5 rows][7 pixels][2 words].
PITCHES = {"row_pitch": 14, "pixel_pitch": 2, "time_pitch": 70}
SIZE = {"height": 5, "width": 7}

#: Passes: changes of the fields of WINDOW and WEIGHTS.
CONV = {"kernel_h": 3, "kernel_w": 3, "pad_y": 1, "pad_x": 1}
STRIDED = {"kernel_h": 2, "kernel_w": 4, "stride_y": 2, "stride_x": 2, "pad_x": 3}
OWN = {"mode": PassMode.ELEMENTWISE, "words": 1, "kernel_h": 1, "kernel_w": 1}
SPIKE = {"kind": FireKind.SPIKE, "n_neg": 8, "n_pos": 7}


def layer(passes, paired, *, size=(4, 4), fire=None, timesteps=3, tiles=2, position_log2=1, output=None):
    """Instructions of a RUN over `size` positions; `passes` are changes of fields, as for single positions."""
    pixels = 1 + paired
    code = []
    for slot, each in enumerate(passes):
        window = {"kernel_h": 1, "kernel_w": 1, "stride_y": 1, "stride_x": 1, "pad_y": 0, "pad_x": 0, **SIZE}
        weights = {"mode": PassMode.BROADCAST, "base": 300 * slot, "words": 2, "tile_step": 0, "shared": 0, "wide": 0}
        weights |= {"positive": 9, "shift": 0}
        source = {"origin": 210 * slot, **PITCHES}
        for fields in (window, weights, source):
            fields |= {name: value for name, value in each.items() if name in fields}
        source["origin"] -= window["pad_y"] * source["row_pitch"] + window["pad_x"] * source["pixel_pitch"]
        window["stride_x"] *= pixels
        source["origin"] %= 65536
        code += [make(SOURCE, slot=slot, **source), make(WINDOW, slot=slot, **window)]
        code += [make(WEIGHTS, slot=slot, **weights)]
    output = {"base": 512, "pixel_pitch": 8 * tiles, "row_pitch": 8 * tiles * size[1], "time_pitch": 0} | (output or {})
    output["pixel_pitch"] *= pixels
    fire = {"kind": FireKind.MEMBRANE, "params": 0, "wide": 0, "n_neg": 0, "n_pos": 15, "rectified": 0} | (fire or {})
    shape = {"height": size[0], "width": size[1] // pixels, "timesteps": timesteps, "tiles": tiles}
    shape |= {"position_log2": position_log2, "passes": len(passes), "pairs": int(paired)}
    return [*code, make(OUTPUT, **output), make(SHAPE, **shape), make(FIRE, **fire), make(RUN)]


def prepared(seed, configuration=PAIRS):
    """Return a machine with random counts, many of them zero, weights, and parameters."""
    machine, rng = Machine(configuration), np.random.default_rng(seed)
    counts = np.where(rng.random((512, 16)) < 0.4, rng.integers(0, 16, (512, 16)), 0).astype(np.uint64)
    counts[rng.random(512) < 0.2] = 0
    words = np.bitwise_or.reduce(counts << (4 * np.arange(16, dtype=np.uint64)), axis=1)
    machine.write(Space.SPIKES, 0, 0, words)
    machine.weights[:] = rng.integers(-20, 21, machine.weights.shape)
    for name, low, high in (("theta", 50, 200), ("bias", -50, 50), ("v0", 0, 50)):
        # Columns with the same tile have the same parameters.
        getattr(machine, name)[:] = rng.integers(low, high, (1, configuration.param_depth))
    machine.weights[:] = machine.weights[:1]
    return machine


def counted(machine, instructions):
    """Events, words and zero words of each column, one after the other, from the instructions of a paired RUN."""
    single, slots = {}, [{}, {}]
    for each in instructions:
        (slots[each.values["slot"]] if "slot" in each.values else single)[each.format.name] = each.values
    shape = single["SHAPE"]
    members = 1 << shape["position_log2"]
    groups = machine.configuration.columns // members
    found = [[0, 0, 0] for _ in machine.columns]
    loops = (shape["tiles"], shape["height"], shape["width"], shape["timesteps"], shape["passes"])
    for tile, y, pair, t, slot in itertools.product(*map(range, loops)):
        column = found[tile % groups * members + (y * shape["width"] + pair) % members]
        source, window, weights = (slots[slot][name] for name in ("SOURCE", "WINDOW", "WEIGHTS"))
        own = weights["mode"] == PassMode.ELEMENTWISE
        for ky, kx, w in itertools.product(
            *(range(n) for n in (window["kernel_h"], window["kernel_w"], weights["words"]))
        ):
            nonzero, halves, came = set(), (0, window["stride_x"] // 2), []
            for half in halves:
                iy, right = y * window["stride_y"] + ky, pair * window["stride_x"] + half + kx
                ix = right - window["pad_x"]
                if not (0 <= iy - window["pad_y"] < window["height"] and 0 <= ix < window["width"]):
                    continue
                at = source["origin"] + t * source["time_pitch"] + iy * source["row_pitch"] + w + own * tile
                word = int(machine.spikes[(at + right * source["pixel_pitch"]) % 65536])
                came.append(word)
                if own:
                    column[0] += word != 0
                else:
                    nonzero |= {index for index in range(16) if word >> 4 * index & 15}
            column[0] += len(nonzero)
            # Where both see a pixel of one word, neighbours see one word again: the first one's is at hand.
            if not own and weights["words"] == 1 and halves[1] == 1 and kx and len(came) == 2:
                del came[0]
            column[1] += len(came)
            column[2] += came.count(0)
    return found


@pytest.mark.parametrize(
    ("passes", "options"),
    [
        ([CONV], {"position_log2": 0}),
        ([CONV], {"position_log2": 1, "fire": SPIKE, "output": {"time_pitch": 128}}),
        ([CONV | {"shift": 1}], {"position_log2": 2, "size": (5, 6), "tiles": 1, "timesteps": 1}),
        ([STRIDED], {"size": (2, 4)}),
        ([STRIDED | {"stride_x": 5, "pad_x": 1}], {"size": (2, 2), "position_log2": 2}),
        ([OWN | {"kernel_w": 2, "shift": 3, "pad_x": 1}], {"size": (3, 6)}),
        ([CONV, OWN | {"shift": 2}], {"fire": SPIKE | {"rectified": 1}, "output": {"time_pitch": 128}}),
        ([CONV, STRIDED | {"stride_x": 1}], {"fire": {"kind": FireKind.RAW}, "size": (2, 4), "timesteps": 1}),
        ([CONV | {"words": 1}], {}),
        ([CONV | {"words": 1, "kernel_w": 2, "pad_x": 0}], {"size": (4, 6), "position_log2": 2}),
        ([CONV | {"words": 1, "pad_x": 2}, STRIDED | {"words": 1}], {"size": (2, 4)}),
        ([CONV, {"time_pitch": 0, "shared": 1, "kernel_h": 2}], {"timesteps": 2}),
    ],
)  # fmt: skip
def test_a_layer_in_pairs_is_the_layer(passes, options):
    for seed in range(3):
        alone, paired = prepared(seed), prepared(seed)
        execute(alone, layer(passes, paired=False, **options))
        wanted = counted(paired, layer(passes, paired=True, **options))
        execute(paired, layer(passes, paired=True, **options))
        assert (alone.spikes == paired.spikes).all()
        assert alone.spikes[512:].any()
        assert [[each.events, each.words, each.zero_words] for each in paired.columns] == wanted
        # Positions may go to any column of a group.
        members = 1 << options.get("position_log2", 1)
        groups = [wanted[first : first + members] for first in range(0, len(wanted), members)]
        assert paired.cycles == max(math.ceil(sum(each[0] for each in group) / members) for group in groups)
        # A pair shares events, unless every count is a lane's own, and words, if it is of neighbours that see one each.
        (few, words), (many, same) = (
            [sum(getattr(column, name) for column in machine.columns) for name in ("events", "words")]
            for machine in (paired, alone)
        )
        shared = any(each.get("words") == 1 and "mode" not in each for each in passes)
        assert words < same if shared else words == same
        assert few == many if passes == [each for each in passes if "mode" in each] else few < many


def test_a_pair_shares_an_event_where_either_count_is_nonzero():
    machine = Machine(PAIRS)
    # Counts 2, 0, 3, 0 of the first position, 5, 1, 0, 0 of the second, which is 2 pixels to the right.
    machine.write(Space.SPIKES, 0, 0, [0x0302, 0, 0x0015])
    for row in range(3):
        machine.weights[:, row] = 10**row
    size = {"height": 1, "width": 3, "stride_x": 2, "words": 1, "row_pitch": 3, "pixel_pitch": 1, "time_pitch": 0}
    execute(machine, layer([size], paired=True, size=(1, 2), timesteps=1, tiles=1, position_log2=0))
    found = machine.read(Space.SPIKES, 512, 9).astype("<u8").view("<i4")
    assert found[0] == 2 + 300 and found[16] == 5 + 10
    assert machine.columns[0].events == 3


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"wide": 1}, {}, "a source of 8-bit counts"),
        ({"shift": 2}, {}, "a shift of 2"),
        ({"mode": PassMode.RAW}, {}, "a RAW pass"),
        ({"mode": PassMode.MAXIMUM}, {}, "a MAXIMUM pass"),
        ({"width": 1, "stride_x": 2}, {}, "a source of 1 pixels and a stride_x of 4"),
        ({"pixel_pitch": 512}, {}, "1024 words from pair to pair"),
        ({}, {"output": {"pixel_pitch": 511}}, "an output pixel_pitch of 1022"),
        ({}, {"fire": {"kind": FireKind.PROBABILISTIC}}, "probabilistic neurons"),
    ],
)
def test_what_cannot_be_paired_is_refused(changes, options, message):
    with pytest.raises(DeviceError, match=f"a RUN in pairs of positions has {message}"):
        execute(prepared(0, PAIRS.replace(spike_depth=512)), layer([changes], paired=True, **options))


def test_odd_distances_and_hardware_without_pairs_are_refused():
    code = layer([{}], paired=True)
    odd = make(OUTPUT, **{**code[3].values, "pixel_pitch": 17})
    with pytest.raises(DeviceError, match="an output pixel_pitch of 17, which is odd"):
        execute(prepared(0), [*code[:3], odd, *code[4:]])
    odd = make(WINDOW, **{**code[1].values, "stride_x": 3})
    with pytest.raises(DeviceError, match="a stride_x of 3, which is odd"):
        execute(prepared(0), [code[0], odd, *code[2:]])
    with pytest.raises(DeviceError, match="configuration 'single' has no pairs of positions"):
        execute(prepared(0, PAIRS.replace(name="single", pairs=0)), code)
