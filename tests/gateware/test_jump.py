"""Jumps of the register of random numbers against its steps."""

import random
from typing import Any

from gateware.simulate import run
from polyspike.gateware.jump import Jump
from polyspike.spec import lfsr


def test_the_state_after_a_jump() -> None:
    unit = Jump()
    generator = random.Random(1)

    async def jump(ctx: Any) -> None:
        for taps in (lfsr.TAPS, 0xB400, 0xE10000):
            for draws in (0, 1, 3, 1234):
                state = wanted = generator.randrange(1, 1 << taps.bit_length())
                for _ in range(draws * lfsr.DRAW_BITS):
                    wanted = lfsr.step(wanted, taps)
                ctx.set(unit.start, 1)
                await ctx.tick()
                ctx.set(unit.start, 0)
                for name, value in (("taps", taps), ("state", state), ("jump", lfsr.jump_over(draws, taps))):
                    ctx.set(getattr(unit, name), value)
                cycles = 1
                while ctx.get(unit.busy):
                    await ctx.tick()
                    cycles += 1
                assert ctx.get(unit.result) == wanted
                assert cycles == 33
                await ctx.tick().repeat(generator.randint(1, 3))
                assert ctx.get(unit.result) == wanted

    run(unit, jump)


def test_a_start_begins_anew() -> None:
    unit = Jump()

    async def jump(ctx: Any) -> None:
        for name, value in (("taps", lfsr.TAPS), ("state", 1), ("jump", lfsr.jump_over(1, lfsr.TAPS))):
            ctx.set(getattr(unit, name), value)
        for cycles in (7, 33):
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, 0)
            await ctx.tick().repeat(cycles)
        wanted = 1
        for _ in range(lfsr.DRAW_BITS):
            wanted = lfsr.step(wanted, lfsr.TAPS)
        assert (ctx.get(unit.busy), ctx.get(unit.result)) == (0, wanted)

    run(unit, jump)
