"""The buffer: nothing is lost, repeated or overtaken, and nothing waits without need."""

from typing import Any

import pytest

from gateware.simulate import run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.buffer import Buffer


@pytest.mark.parametrize("stall_in", STALLS)
@pytest.mark.parametrize("stall_out", STALLS)
def test_items_pass_in_order(stall_in: str, stall_out: str) -> None:
    unit = Buffer(16)
    items = list(range(1, 200))
    got: list[int] = []

    async def feed(ctx: Any) -> None:
        await send(ctx, unit.i, items, STALLS[stall_in](1))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall_out](2)
        for _ in items:
            got.append(await get(ctx, unit.o, next(stalls)))
        # None comes twice.
        await ctx.tick().repeat(3)
        assert not ctx.get(unit.o.valid)

    run(unit, feed, collect, deadline=20_000)
    assert got == items


def test_two_places_rate_and_latency() -> None:
    """Two items are taken while none leaves; then one a cycle goes through, offered a cycle after it was taken."""
    unit = Buffer(8)
    accepted: list[int] = []
    offered: list[int | None] = []

    async def watch(ctx: Any) -> None:
        ctx.set(unit.i.valid, 1)
        item = 1
        for cycle in range(12):
            ctx.set(unit.i.payload, item)
            ctx.set(unit.o.ready, cycle >= 5)
            _, _, ready, valid, payload = await ctx.tick().sample(unit.i.ready, unit.o.valid, unit.o.payload)
            accepted.append(int(ready))
            offered.append(int(payload) if valid else None)
            item += int(ready)

    run(unit, watch)
    # The place is free from the cycle after the first item has left.
    assert accepted == [1, 1, 0, 0, 0, 0] + [1] * 6
    assert offered == [None, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7]
