"""The sequencer against the outer loops of the instruction set's description."""

import random
from typing import Any

import pytest

from gateware.simulate import plain, run
from polyspike.cosim.streams import STALLS, get, put, wait
from polyspike.gateware import layouts
from polyspike.gateware.sequencer import SETUP_CYCLES, Sequencer
from polyspike.spec import Configuration
from polyspike.spec.instructions import FIRE, HALT, OUTPUT, RUN, SHAPE, SOURCE, WEIGHTS, WINDOW, encode, make

Values = dict[str, int]

WORDS, ROWS, CHANNELS = 4096, 1024, 64


def configuration(columns: int) -> Configuration:
    return Configuration(
        name="test",
        columns=columns,
        lanes=8,
        weight_depth=ROWS,
        spike_depth=WORDS,
        param_depth=CHANNELS,
        program_depth=64,
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


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("columns", [1, 4])
def test_deals_every_position_once(columns: int, stall: str, seed: int) -> None:
    generator = random.Random(f"{columns} {stall} {seed}")
    unit = Sequencer(configuration(columns))
    layers = [random_layer(generator, columns) for _ in range(2)]
    program = [word for layer in layers for word in instructions(layer)] + [encode(make(HALT))]
    expected = [expected_items(layer, columns, 8) for layer in layers]
    busy = [False] * columns
    got: list[list[dict[str, Any]]] = [[] for _ in range(columns)]
    steps: list[Values] = []

    async def host(ctx: Any) -> None:
        ctx.set(unit.idle, (1 << columns) - 1)
        ctx.set(unit.write_enable, 1)
        for address, data in enumerate(program):
            ctx.set(unit.write, {"address": address, "data": data})
            await ctx.tick()
        ctx.set(unit.write_enable, 0)
        await put(ctx, unit.run, {"first": 0, "count": generator.choice([0, len(program), 60])})
        done = False
        while not done:
            _, _, done = await ctx.tick().sample(unit.done)
        for column in range(columns):
            assert got[column] == expected[0][column] + expected[1][column]

    def column(index: int) -> Any:
        async def testbench(ctx: Any) -> None:
            stalls = STALLS[stall](index)
            while True:
                item = plain(await get(ctx, getattr(unit, f"item{index}"), next(stalls)))
                busy[index] = True
                ctx.set(unit.idle[index], 0)
                item["window"] = [plain(each) for each in item["window"]]
                got[index].append(item)
                steps.extend(
                    {
                        name: ctx.get(getattr(layouts.passes(unit.layer)[slot].steps, name))
                        for name in layouts.steps(unit.configuration).members
                    }
                    for slot in range(2)
                )
                await wait(ctx, 1)
                ctx.set(unit.idle[index], 1)

        return testbench

    run(unit, host, background=tuple(column(index) for index in range(columns)))
    for at, each in enumerate(steps):
        # Steps of whichever layer the item belonged to: slot `at % 2` of either.
        candidates = []
        for layer in layers:
            source, window, weights = (layer["passes"][at % 2][name] for name in ("SOURCE", "WINDOW", "WEIGHTS"))
            per_word = 8 if weights["wide"] else 16
            row_tap = 0 if weights["shared"] else 1 if weights["mode"] else weights["words"] * per_word
            candidates.append(
                {
                    "x": window["stride_x"] * source["pixel_pitch"] % WORDS,
                    "y": window["stride_y"] * source["row_pitch"] % WORDS,
                    "row_word": 0 if weights["mode"] else per_word,
                    "row_tap": row_tap % ROWS,
                    "row_line": window["kernel_w"] * row_tap % ROWS,
                }
            )
        assert each in candidates


@pytest.mark.parametrize("columns", [1, 4])
def test_rate_and_latency(columns: int) -> None:
    unit = Sequencer(configuration(columns))
    layer = random_layer(random.Random(0), columns)
    layer["SHAPE"] |= {"height": 3, "width": 5, "tiles": 1, "position_log2": columns.bit_length() - 1}
    program = instructions(layer)
    valid: list[int] = []
    ends: list[int] = []

    async def host(ctx: Any) -> None:
        ctx.set(unit.write_enable, 1)
        for address, data in enumerate(program):
            ctx.set(unit.write, {"address": address, "data": data})
            await ctx.tick()
        ctx.set(unit.write_enable, 0)
        items = [getattr(unit, f"item{column}") for column in range(columns)]
        for item in items:
            ctx.set(item.ready, 1)
        ctx.set(unit.idle, (1 << columns) - 1)
        ctx.set(unit.run.payload, {"first": 0, "count": len(program)})
        ctx.set(unit.run.valid, 1)
        for cycle in range(120):
            _, _, done, *offered = await ctx.tick().sample(unit.done, *(item.valid for item in items))
            ctx.set(unit.run.valid, 0)
            valid.extend([cycle] * sum(offered))
            ends.extend([cycle] if done else [])

    run(unit, host)
    # One cycle to take the request, three an instruction, the products, one a column and one, one to start; and, to
    # several columns, one to settle and a register each.
    first = 1 + 3 * len(program) + SETUP_CYCLES + columns + 1 + 1 + 2 * (columns > 1)
    assert valid == list(range(first, first + 30, 2))
    assert ends == [first + 30 + 5 - (columns > 1)]
