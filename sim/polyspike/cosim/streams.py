"""Helpers that drive and watch `amaranth.lib.stream` interfaces in Amaranth's simulator.

`put`, `get` and `send` belong into a testbench; `monitor` makes a process that fails the simulation when a stream
breaks its rules.
"""

import itertools
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

#: Cycles to wait before each transfer, without end.
Stalls = Iterator[int]


def no_stalls(seed: int = 0) -> Stalls:
    """Never wait."""
    return itertools.repeat(0)


def random_stalls(seed: int) -> Stalls:
    """Wait none to three cycles before each transfer, by chance."""
    generator = random.Random(seed)
    while True:
        yield generator.choice((0, 0, 1, 3))


def bursty_stalls(seed: int) -> Stalls:
    """Let bursts through without a wait and pause for long between them."""
    generator = random.Random(seed)
    while True:
        yield generator.randint(20, 60)
        yield from itertools.repeat(0, generator.randint(5, 40))


#: The stall patterns to run a test under, by name: functions of a seed.
STALLS: dict[str, Callable[[int], Stalls]] = {"none": no_stalls, "random": random_stalls, "bursty": bursty_stalls}


async def wait(ctx: Any, cycles: int) -> None:
    """Let `cycles` cycles of `sync` pass."""
    for _ in range(cycles):
        await ctx.tick()


async def put(ctx: Any, stream: Any, payload: Any, stall: int = 0) -> None:
    """Wait `stall` cycles, offer one item, and return when it was taken."""
    await wait(ctx, stall)
    ctx.set(stream.payload, payload)
    ctx.set(stream.valid, 1)
    taken = False
    while not taken:
        _, _, taken = await ctx.tick().sample(stream.ready)
    ctx.set(stream.valid, 0)


async def get(ctx: Any, stream: Any, stall: int = 0) -> Any:
    """Take one item and return its payload.

    A stall counts from when the item is offered, so a stream whose `valid` waits for `ready` never moves under stalls.
    """
    if stall:
        while not ctx.get(stream.valid):
            await ctx.tick()
        await wait(ctx, stall)
    ctx.set(stream.ready, 1)
    valid = False
    while not valid:
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
    ctx.set(stream.ready, 0)
    return payload


async def send(ctx: Any, stream: Any, payloads: Iterable[Any], stalls: Stalls) -> None:
    """Offer items one after the other, waiting before each as `stalls` says."""
    for payload in payloads:
        await put(ctx, stream, payload, next(stalls))


def monitor(stream: Any, name: str) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Return a process for `Simulator.add_process` that asserts the rules of a stream.

    Once `valid` is set, `valid` and `payload` hold until the transfer. That `valid` does not wait for `ready` shows in
    `get` under stalls.
    """

    async def watch(ctx: Any) -> None:
        waiting = False
        held: Any = None
        async for _, reset, valid, ready, payload in ctx.tick().sample(stream.valid, stream.ready, stream.payload):
            if waiting and not reset:
                assert valid, f"stream {name}: valid fell before the transfer"
                assert payload == held, f"stream {name}: payload changed before the transfer, {held!r} to {payload!r}"
            waiting, held = bool(valid and not ready), payload

    return watch
