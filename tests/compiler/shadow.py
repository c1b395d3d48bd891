"""Checks where a program's data lies without knowing how it was allocated.

Every word of a shadow memory remembers which word of which map was put there last. Each RUN is taken apart from its
instructions alone; whatever it reads must be what the layer is connected to, so a map that was overwritten while it was
still needed is found.
"""

import itertools

from polyspike.compiler import Download, Run, Upload
from polyspike.network import Layer
from polyspike.spec.instructions import FireKind, PassMode


class ClashError(AssertionError):
    """A word is not what it should be."""


def check_memory(program):
    memory = [None] * program.configuration.spike_depth
    for segment in program.segments:
        for step in segment.steps:
            if isinstance(step, Upload):
                for offset, tag in box_tags(step.box):
                    memory[step.box.address + offset] = tag
            elif isinstance(step, Download):
                for offset, tag in box_tags(step.box):
                    found = memory[step.box.address + offset]
                    if found != tag and not is_part(found, step.box.map):
                        raise ClashError(f"download of {tag} finds {found}")
            else:
                assert isinstance(step, Run)
                for block in step.blocks:
                    check_block(program, segment.instructions[block.first : block.first + block.count], block, memory)


def box_tags(box):
    axes = [range(*span) for span in (box.time, box.rows, box.pixels, box.words)]
    return enumerate((box.map, *where) for where in itertools.product(*axes))


def is_part(tag, name):
    """Whether a word was written by a block that does not say where in its map it belongs."""
    return tag is not None and tag[1] == "part" and name.startswith(tag[0])


def check_block(program, instructions, block, memory):
    lanes = program.configuration.lanes
    node = program.network[block.layer]
    sources = {synapse.source for synapse in node.synapses} if isinstance(node, Layer) else {node.source}
    single, slots = {}, [{}, {}]
    for instruction in instructions:
        name = instruction.format.name
        (slots[instruction.values["slot"]] if "slot" in instruction.values else single)[name] = instruction.values
    shape, fire, output = single["SHAPE"], single["FIRE"], single["OUTPUT"]
    if shape["pairs"]:
        # The same as a RUN of single positions.
        shape = {**shape, "width": 2 * shape["width"]}
        output = {**output, "pixel_pitch": exact_half(output["pixel_pitch"])}
        for slot in slots[: shape["passes"]]:
            slot["WINDOW"] = {**slot["WINDOW"], "stride_x": exact_half(slot["WINDOW"]["stride_x"])}
    for slot in range(shape["passes"]):
        raw = slots[slot]["WEIGHTS"]["mode"] == PassMode.RAW
        wanted = {f"{node.name} (sums)"} if raw else sources | {f"{node.name} (rows)"}
        check_pass(slots[slot], shape, lanes, wanted, memory)
    bits = 32 if fire["kind"] in (FireKind.MEMBRANE, FireKind.RAW) else 8 if fire["wide"] else 4
    box = block.output
    for t in range(1 if fire["kind"] == FireKind.MEMBRANE else shape["timesteps"]):
        for y, x in itertools.product(range(shape["height"]), range(shape["width"])):
            address = output["base"] + t * output["time_pitch"] + y * output["row_pitch"] + x * output["pixel_pitch"]
            for w in range(-(-shape["tiles"] * lanes * bits // 64)):
                if box is not None:
                    # Earlier blocks may have written the first words of the pixel.
                    first = output["base"] - box.address
                    where = (box.time[0] + t, box.rows[0] + y, box.pixels[0] + x, box.words[0] + first + w)
                    memory[address + w] = (box.map, *where)
                    continue
                name = f"{node.name} (sums)" if fire["kind"] == FireKind.RAW else node.name
                memory[address + w] = (name, "part", t, y, x, address + w)
    if box is not None:
        for offset, tag in box_tags(box):
            found = memory[box.address + offset]
            if found != tag and not is_part(found, node.name):
                raise ClashError(f"{node.name} should have left {tag}, but there is {found}")
            memory[box.address + offset] = tag


def exact_half(value):
    assert value % 2 == 0
    return value // 2


def check_pass(slot, shape, lanes, wanted, memory):
    source, window, weights = slot["SOURCE"], slot["WINDOW"], slot["WEIGHTS"]
    per_word = 2 if weights["mode"] == PassMode.RAW else 8 if weights["wide"] else 16
    tiles = [0] if weights["mode"] == PassMode.BROADCAST else range(shape["tiles"])
    relative = set()
    for t, y, x, ky, kx, tile, w in itertools.product(
        range(shape["timesteps"]),
        range(shape["height"]),
        range(shape["width"]),
        range(window["kernel_h"]),
        range(window["kernel_w"]),
        tiles,
        range(weights["words"]),
    ):
        iy = y * window["stride_y"] - window["pad_y"] + ky
        ix = x * window["stride_x"] - window["pad_x"] + kx
        word = w + tile * lanes // per_word
        if not (0 <= iy < window["height"] and 0 <= ix < window["width"]) or word >= source["pixel_pitch"]:
            continue
        address = (
            source["origin"]
            + t * source["time_pitch"]
            + (y * window["stride_y"] + ky) * source["row_pitch"]
            + (x * window["stride_x"] + kx) * source["pixel_pitch"]
            + word
        ) % 65536
        tag = memory[address]
        if tag is None or tag[0].split(" (sums")[0] not in {name.split(" (sums")[0] for name in wanted}:
            raise ClashError(f"a pass over {sorted(wanted)} reads {tag} at {address}")
        if "part" not in tag:
            time = t if source["time_pitch"] else 0
            relative.add((tag[0], tag[1] - time, tag[2] - iy, tag[3] - ix, tag[4] - word))
    if len(relative) > 1:
        raise ClashError(f"a pass reads words that do not belong together: {sorted(relative)[:4]}")
