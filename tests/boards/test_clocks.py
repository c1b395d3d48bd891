"""Reset of the boards whose parts have no net for it."""

from typing import Any

from amaranth.sim import Simulator

from polyspike.gateware.boards.clocks import Startup

CYCLES = 20


def test_reset_outlasts_the_lock() -> None:
    """It holds without the lock, for some cycles longer, and comes back when the lock is lost."""
    dut = Startup(CYCLES)

    async def bench(ctx: Any) -> None:
        for locked in (False, True, False, True):
            ctx.set(dut.locked, locked)
            if not locked:
                await ctx.tick().repeat(3)
                for _ in range(2 * CYCLES):
                    assert ctx.get(dut.reset)
                    await ctx.tick()
                continue
            cycles = 0
            while ctx.get(dut.reset):
                await ctx.tick()
                cycles += 1
            assert CYCLES < cycles <= CYCLES + 4
            for _ in range(100):
                await ctx.tick()
                assert not ctx.get(dut.reset)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
