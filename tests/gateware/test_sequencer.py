"""The sequencer against the outer loops of the instruction set's description."""

import random
from collections import Counter
from typing import Any

import pytest

from gateware.sequencing import Values, configuration, expected_items, expected_steps, instructions, random_layer
from gateware.simulate import plain, run
from polyspike.compiler.program import INSTRUCTION_CYCLES
from polyspike.cosim.streams import STALLS, get, put, wait
from polyspike.gateware import layouts
from polyspike.gateware.sequencer import SETUP_CYCLES, Sequencer
from polyspike.spec.instructions import HALT, encode, make

#: With pairs, SETUP takes no longer than it must, and columns that have room take positions of those that have none.
_SHAPES = pytest.mark.parametrize(("columns", "pairs"), [(1, 0), (4, 0), (1, 1), (4, 1)])


async def load(ctx: Any, unit: Sequencer, program: list[int]) -> None:
    """Write a program from address 0 on."""
    ctx.set(unit.write_enable, 1)
    for address, data in enumerate(program):
        ctx.set(unit.write, {"address": address, "data": data})
        await ctx.tick()
    ctx.set(unit.write_enable, 0)


def assert_dealt_to_groups(got: list[list[Values]], layers: list[Any], expected: list[list[list[Values]]]) -> None:
    """Check that each position went to some column of its group, and once only."""
    columns = range(len(got))
    for column in columns:
        allowed = [
            item
            for layer, items in zip(layers, expected, strict=True)
            for other in columns
            if (other ^ column) >> layer["SHAPE"]["position_log2"] == 0
            for item in items[other]
        ]
        assert all(item in allowed for item in got[column])
    dealt = Counter(repr(item) for items in got for item in items)
    assert dealt == Counter(repr(item) for each in expected for items in each for item in items)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stall", STALLS)
@_SHAPES
def test_deals_every_position_once(columns: int, pairs: int, stall: str, seed: int) -> None:
    generator = random.Random(f"{columns} {stall} {seed}")
    unit = Sequencer(configuration(columns, pairs))
    layers = [random_layer(generator, columns) for _ in range(2)]
    program = [word for layer in layers for word in instructions(layer)] + [encode(make(HALT))]
    expected = [expected_items(layer, columns, 8) for layer in layers]
    busy = [False] * columns
    got: list[list[dict[str, Any]]] = [[] for _ in range(columns)]
    steps: list[Values] = []

    async def host(ctx: Any) -> None:
        ctx.set(unit.idle, (1 << columns) - 1)
        await load(ctx, unit, program)
        await put(ctx, unit.run, {"first": 0, "count": generator.choice([0, len(program), 60])})
        done = False
        while not done:
            _, _, done = await ctx.tick().sample(unit.done)
        if pairs:
            assert_dealt_to_groups(got, layers, expected)
        else:
            assert got == [first + second for first, second in zip(*expected, strict=True)]

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
        assert each in [expected_steps(layer, at % 2) for layer in layers]


@_SHAPES
def test_rate_and_latency(columns: int, pairs: int) -> None:
    unit = Sequencer(configuration(columns, pairs))
    layer = random_layer(random.Random(0), columns)
    layer["SHAPE"] |= {"height": 3, "width": 5, "tiles": 1, "position_log2": columns.bit_length() - 1}
    program = instructions(layer)
    valid: list[int] = []
    ends: list[int] = []
    counted: list[int] = []

    async def host(ctx: Any) -> None:
        await load(ctx, unit, program)
        items = [getattr(unit, f"item{column}") for column in range(columns)]
        for item in items:
            ctx.set(item.ready, 1)
        ctx.set(unit.idle, (1 << columns) - 1)
        ctx.set(unit.run.payload, {"first": 0, "count": len(program)})
        ctx.set(unit.run.valid, 1)
        for cycle in range(120):
            sampled = ctx.tick().sample(unit.done, unit.running, *(item.valid for item in items))
            _, _, done, running, *offered = await sampled
            counted.extend([cycle] if running else [])
            ctx.set(unit.run.valid, 0)
            valid.extend([cycle] * sum(offered))
            ends.extend([cycle] if done else [])

    run(unit, host)
    # One cycle to take the request, three an instruction, the products, one a column and one, one to start; and, to
    # several columns, one to settle and a register each.
    setup = SETUP_CYCLES
    if pairs:
        factors = [each["WINDOW"][name] for each in layer["passes"] for name in ("stride_x", "stride_y", "kernel_w")]
        setup = sum(1 + max(1, factor.bit_length()) for factor in factors)
    first = 1 + 3 * len(program) + setup + columns + 1 + 1 + 2 * (columns > 1)
    assert valid == list(range(first, first + 30, 2))
    assert ends == [first + 30 + 5 - (columns > 1)]
    # The counters have all of it but the request and the instructions, so this is what a host has to add to them.
    assert counted == list(range(1 + INSTRUCTION_CYCLES * len(program), ends[0]))


@pytest.mark.parametrize("busy", range(4))
def test_a_busy_column_is_passed_over(busy: int) -> None:
    """With pairs, a column that takes nothing has one position, and the others of its group have all the rest."""
    columns, positions = 4, 15
    unit = Sequencer(configuration(columns, pairs=1))
    layer = random_layer(random.Random(busy), columns)
    layer["SHAPE"] |= {"height": 3, "width": 5, "tiles": 2, "position_log2": 1}
    taken = [0] * columns

    async def host(ctx: Any) -> None:
        await load(ctx, unit, instructions(layer))
        items = [getattr(unit, f"item{column}") for column in range(columns)]
        for column, item in enumerate(items):
            ctx.set(item.ready, column != busy)
        await put(ctx, unit.run, {"first": 0, "count": len(instructions(layer))})
        for _ in range(250):
            _, _, *valid = await ctx.tick().sample(*(item.valid for item in items))
            for column in range(columns):
                taken[column] += valid[column] and column != busy

    run(unit, host)
    groups = [taken[0] + taken[1], taken[2] + taken[3]]
    assert taken[busy] == 0
    assert groups[busy // 2] == positions - 1
    assert groups[1 - busy // 2] == positions
