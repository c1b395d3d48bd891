"""Random layers for sequencer and dealer, and what the loop nest of the instruction set makes of them."""

import random
from typing import Any

from polyspike.spec import Configuration
from polyspike.spec.instructions import FIRE, OUTPUT, RUN, SHAPE, SOURCE, WEIGHTS, WINDOW, encode, make

Values = dict[str, int]

WORDS, ROWS, CHANNELS = 4096, 1024, 64


def configuration(columns: int, pairs: int = 0) -> Configuration:
    return Configuration(
        name="test",
        columns=columns,
        lanes=8,
        weight_depth=ROWS,
        spike_depth=WORDS,
        param_depth=CHANNELS,
        program_depth=64,
        pairs=pairs,
    )


def random_layer(generator: random.Random, columns: int) -> dict[str, Any]:
    """Return values of all descriptors of a layer."""

    def values(format: Any, **fixed: int) -> Values:
        chosen = {field.name: generator.choice(field.range) for field in format.fields}
        return {**chosen, **fixed}

    passes = [
        {
            "SOURCE": values(SOURCE, slot=slot),
            "WINDOW": values(WINDOW, slot=slot),
            "WEIGHTS": values(WEIGHTS, slot=slot, mode=generator.randint(0, 1), words=generator.randint(1, 9)),
        }
        for slot in range(2)
    ]
    shape = values(
        SHAPE,
        height=generator.randint(1, 4),
        width=generator.randint(1, 4),
        tiles=generator.randint(1, 2 * columns + 1),
        position_log2=generator.randint(0, columns.bit_length() - 1),
        passes=2,
    )
    return {"passes": passes, "OUTPUT": values(OUTPUT), "SHAPE": shape, "FIRE": values(FIRE)}


def instructions(layer: dict[str, Any]) -> list[int]:
    words = []
    for each in layer["passes"]:
        words += [make(SOURCE, **each["SOURCE"]), make(WINDOW, **each["WINDOW"]), make(WEIGHTS, **each["WEIGHTS"])]
    words += [make(OUTPUT, **layer["OUTPUT"]), make(SHAPE, **layer["SHAPE"]), make(FIRE, **layer["FIRE"]), make(RUN)]
    return [encode(each) for each in words]


def expected_items(layer: dict[str, Any], columns: int, lanes: int) -> list[list[dict[str, Any]]]:
    """Return the items of every column, by the loop nest."""
    items: list[list[dict[str, Any]]] = [[] for _ in range(columns)]
    shape, output = layer["SHAPE"], layer["OUTPUT"]
    members = 1 << shape["position_log2"]
    groups = columns // members
    for round_ in range(-(-shape["tiles"] // groups)):
        index = 0
        for y in range(shape["height"]):
            for x in range(shape["width"]):
                for group in range(groups):
                    tile = round_ * groups + group
                    if tile >= shape["tiles"]:
                        continue
                    windows = []
                    for each in layer["passes"]:
                        source, window, weights = each["SOURCE"], each["WINDOW"], each["WEIGHTS"]
                        origin = (
                            source["origin"]
                            + y * window["stride_y"] * source["row_pitch"]
                            + x * window["stride_x"] * source["pixel_pitch"]
                        )
                        windows.append(
                            {
                                "origin": origin % WORDS,
                                "y": y * window["stride_y"] - window["pad_y"],
                                "x": x * window["stride_x"] - window["pad_x"],
                                "row": (weights["base"] + round_ * weights["tile_step"]) % ROWS,
                            }
                        )
                    items[group * members + index % members].append(
                        {
                            "window": windows,
                            "output": (output["base"] + y * output["row_pitch"] + x * output["pixel_pitch"]) % WORDS,
                            "params": (layer["FIRE"]["params"] + round_ * lanes) % CHANNELS,
                            "tile": tile,
                        }
                    )
                index += 1
    return items


def expected_steps(layer: dict[str, Any], slot: int) -> Values:
    """Return what is derived from a pass of a layer."""
    source, window, weights = (layer["passes"][slot][name] for name in ("SOURCE", "WINDOW", "WEIGHTS"))
    per_word = 8 if weights["wide"] else 16
    row_tap = 0 if weights["shared"] else 1 if weights["mode"] else weights["words"] * per_word
    return {
        "x": window["stride_x"] * source["pixel_pitch"] % WORDS,
        "y": window["stride_y"] * source["row_pitch"] % WORDS,
        "row_word": 0 if weights["mode"] else per_word,
        "row_tap": row_tap % ROWS,
        "row_line": window["kernel_w"] * row_tap % ROWS,
    }
