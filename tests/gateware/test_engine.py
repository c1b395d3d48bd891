"""The engine's rates towards the host; what it computes is compared in tests/cosim."""

import itertools
from typing import Any

import pytest

from gateware.simulate import run
from polyspike.gateware.engine import Engine
from polyspike.gateware.spike_memory import READ_LATENCY
from polyspike.spec import TINY
from polyspike.spec.memory import Space


@pytest.mark.parametrize("compact,cycles", [(0, READ_LATENCY + 2), (1, 4)])
def test_reads_of_the_spike_memory(compact: int, cycles: int) -> None:
    """Words that were written one a cycle come back in order, one every so many cycles."""
    words = [0x1111_2222_3333_4444 * each for each in range(1, 6)]
    unit = Engine(
        TINY.replace(
            columns=2 - compact, compact=compact, weight_depth=64, spike_depth=64, param_depth=64, program_depth=64
        )
    )
    taken: list[int] = []
    got: list[int] = []

    async def host(ctx: Any) -> None:
        ctx.set(unit.request.valid, 1)
        ctx.set(unit.response.ready, 1)
        at = 0
        for cycle in range(60):
            address = at % len(words)
            ctx.set(
                unit.request.payload,
                {"space": Space.SPIKES, "write": at < len(words), "address": address, "data": words[address]},
            )
            _, _, ready, answered, word = await ctx.tick().sample(
                unit.request.ready, unit.response.valid, unit.response.payload
            )
            taken.extend([cycle] if ready else [])
            got.extend([word] if answered else [])
            at += ready
            if len(got) == len(words):
                break

    run(unit, host)
    # The first one waits for the arbiter, if it was not the host's turn; two wait in front of it, where there is one.
    writes, reads = taken[: len(words)], taken[len(words) : 2 * len(words)]
    assert [later - earlier for earlier, later in itertools.pairwise(writes)] == ([1] * 4 if compact else [1, 2, 1, 1])
    assert [later - earlier for earlier, later in itertools.pairwise(reads)] == [cycles] * 4
    assert got == words


@pytest.mark.parametrize("compact", [0, 1])
def test_a_read_sees_the_write_before_it(compact: int) -> None:
    """Each word is read back at once, and written over while others wait for their turn at the memory."""
    unit = Engine(
        TINY.replace(
            columns=4 - 3 * compact, compact=compact, weight_depth=64, spike_depth=64, param_depth=64, program_depth=64
        )
    )
    words = [0x0123_4567_89AB_CDEF ^ each for each in range(20)]
    got: list[int] = []

    async def host(ctx: Any) -> None:
        ctx.set(unit.response.ready, 1)
        for number, word in enumerate(words):
            for write in (1, 0):
                ctx.set(unit.request.valid, 1)
                ctx.set(
                    unit.request.payload, {"space": Space.SPIKES, "write": write, "address": number % 3, "data": word}
                )
                ready = 0
                while not ready:
                    _, _, ready = await ctx.tick().sample(unit.request.ready)
            ctx.set(unit.request.valid, 0)
            answered = 0
            while not answered:
                _, _, answered, word = await ctx.tick().sample(unit.response.valid, unit.response.payload)
            got.append(word)

    run(unit, host)
    assert got == words
