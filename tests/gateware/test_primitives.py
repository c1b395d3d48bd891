"""Multipliers: all forms against Python, and the ECP5's cell against the generic form in Icarus; rows of banks."""

import importlib.resources
import random
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from gateware.icarus import compare
from gateware.simulate import run
from polyspike.gateware.primitives import UNCHECKED, Multiplier, family, read_unchecked

#: Bits of the factors: of a lane, and of a lane with pairs.
WIDTHS = [(16, 8), (18, 15)]


@pytest.mark.parametrize("widths,fabric", [*((widths, False) for widths in WIDTHS), (WIDTHS[0], True)])
def test_products(widths: tuple[int, int], fabric: bool) -> None:
    unit = Multiplier(*widths, fabric=fabric)
    generator = random.Random(0)
    ends_a, ends_b = ((-(1 << bits - 1), (1 << bits - 1) - 1, 0, -1, 1) for bits in widths)
    factors = [(a, b) for a in ends_a for b in ends_b]
    factors += [(generator.randint(*ends_a[:2]), generator.randint(*ends_b[:2])) for _ in range(300)]
    got: list[int] = []

    async def bench(ctx: Any) -> None:
        for a, b in [*factors, *[(0, 0)] * Multiplier.LATENCY]:
            ctx.set(unit.a, a)
            ctx.set(unit.b, b)
            while not (enable := generator.randint(0, 3) > 0):
                ctx.set(unit.enable, 0)
                await ctx.tick()
            ctx.set(unit.enable, enable)
            got.append(ctx.get(unit.p))
            await ctx.tick()

    run(unit, bench)
    assert got[Multiplier.LATENCY :] == [a * b for a, b in factors]


@pytest.mark.parametrize("widths", WIDTHS)
def test_mult18x18d_does_what_the_generic_multiplier_does(tmp_path: Path, widths: tuple[int, int]) -> None:
    a_bits, b_bits = widths
    bench = f"""
        module bench;
            reg clk = 0, rst = 0, enable = 1;
            reg signed [{a_bits - 1}:0] a = 0;
            reg signed [{b_bits - 1}:0] b = 0;
            wire signed [{a_bits + b_bits - 1}:0] p, expected;
            generic one (.clk(clk), .rst(rst), .enable(enable), .a(a), .b(b), .p(expected));
            cells two (.clk(clk), .rst(rst), .enable(enable), .a(a), .b(b), .p(p));
            integer cycle;
            initial begin
                for (cycle = 0; cycle < 5000; cycle = cycle + 1) begin
                    #1 clk = 1;
                    #1 clk = 0;
                    if (cycle > 10 && p !== expected) $display("cycle %0d: %0d, not %0d", cycle, p, expected);
                    a = $random;
                    b = $random;
                    enable = $random;
                    if (cycle < 10) enable = 1;
                end
                $display("done");
            end
        endmodule
    """
    models = Path(str(importlib.resources.files("polyspike.cosim"))) / "models" / "MULT18X18D.v"
    compare(tmp_path, lambda: Multiplier(*widths), "LFE5U-85F", models, bench)


class Rows(wiring.Component):
    """A bank that is read unchecked."""

    enable: In(1)
    address: In(range(16))
    row: Out(8)
    write: In(1)
    write_address: In(range(16))
    write_data: In(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bank = bank = memory.Memory(shape=8, depth=16, init=range(100, 116), attrs=UNCHECKED)
        port = bank.write_port()
        m.d.comb += [
            port.en.eq(self.write),
            port.addr.eq(self.write_address),
            port.data.eq(self.write_data),
            self.row.eq(read_unchecked(m, bank, self.enable, self.address)),
        ]
        return m


def test_unchecked_rows_are_those_of_enabled_cycles() -> None:
    """Also while other rows are written."""
    unit = Rows()
    generator = random.Random(0)
    content, expected = list(range(100, 116)), 0

    async def bench(ctx: Any) -> None:
        nonlocal expected
        for _ in range(300):
            at, to, value = generator.randrange(16), generator.randrange(16), generator.randrange(256)
            reads, writes = generator.randint(0, 1), int(generator.randint(0, 1) and at != to)
            given = {"enable": reads, "address": at, "write": writes, "write_address": to, "write_data": value}
            for name, each in given.items():
                ctx.set(getattr(unit, name), each)
            await ctx.tick()
            if reads:
                expected = content[at]
            if writes:
                content[to] = value
            assert ctx.get(unit.row) == expected

    run(unit, bench)


def test_families() -> None:
    for device, expected in (("LFE5UM5G-85F", "ecp5"), ("iCE40UP5K", "ice40"), ("GW1NR-LV9QN88PC6/I5", "gowin")):
        assert family(type("Platform", (), {"device": device})()) == expected
    assert family(None) == ""
