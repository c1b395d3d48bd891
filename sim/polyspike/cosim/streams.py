"""Helpers that drive and watch `amaranth.lib.stream` interfaces in Amaranth's simulator.

`put`, `get` and `send` belong into a testbench; `monitor` makes a process that fails the simulation when a stream
breaks its rules. The stall patterns serve cocotb benches, too, whose streams are in `cocotb_streams`.
"""

import itertools
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from polyspike.spec import DeviceError

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


def long_stalls(seed: int) -> Stalls:
    """Pause for so long every few transfers that all that waits on one side is full, and on the other side empty."""
    generator = random.Random(seed)
    while True:
        yield from itertools.repeat(0, generator.randint(4, 20))
        yield generator.randint(100, 200)


#: The stall patterns to run a test under, by name: functions of a seed.
STALLS: dict[str, Callable[[int], Stalls]] = {"none": no_stalls, "random": random_stalls, "bursty": bursty_stalls}

#: Those of benches, where a cycle costs less than in Amaranth's simulator.
BENCH_STALLS = STALLS | {"long": long_stalls}


def stall_matrix(streams: Sequence[str]) -> list[dict[str, str]]:
    """Return which of `BENCH_STALLS` each stream has in each of 4 runs (one stream) or 16 (two to five).

    Any two streams have every pair of patterns in some run. (With i and j from the field of four elements, i, j, i + j,
    i + a j and i + a a j take all 16 pairs of values two by two.)

    Raises
    ------
    DeviceError
        There are more than five streams; give some of them the same stalls.
    """
    if len(streams) > 5:
        raise DeviceError(f"{len(streams)} streams, but the stall matrix is for five at most; join some")
    patterns = list(BENCH_STALLS)
    if len(streams) == 1:
        return [{streams[0]: pattern} for pattern in patterns]
    times = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))  # j, a j and a a j
    runs = [(i, j, *(i ^ multiple[j] for multiple in times)) for i in range(4) for j in range(4)]
    return [{name: patterns[index] for name, index in zip(streams, run, strict=False)} for run in runs]


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
