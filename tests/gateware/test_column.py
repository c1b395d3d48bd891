"""A column's word on whether it is idle: from the first position on until the last result is taken."""

from typing import Any

import pytest

from gateware.simulate import describe, run
from polyspike.gateware.column import Column
from polyspike.gateware.spike_memory import READ_LATENCY
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind, PassMode

CONFIGURATION = Configuration(
    name="test", columns=2, lanes=16, weight_depth=64, spike_depth=64, param_depth=64, program_depth=64
)
#: Words of a position: raw sums, two a word.
WORDS = CONFIGURATION.lanes // 2


@pytest.mark.parametrize("pause", [0, 1, 40])
def test_idle_from_the_first_position_until_the_last_word_is_taken(pause: int) -> None:
    unit, positions = Column(CONFIGURATION), 3
    idle: list[int] = []
    given: list[int] = []
    taken: list[int] = []

    async def system(ctx: Any) -> None:
        describe(
            ctx,
            unit.layer.pass0,
            window={"height": 1, "width": 1, "kernel_h": 1, "kernel_w": 1},
            weights={"mode": PassMode.BROADCAST, "words": 1, "positive": 7},
        )
        describe(ctx, unit.layer, extent={"timesteps": 1, "passes": 1}, fire={"kind": FireKind.RAW})
        ctx.set(unit.request.ready, 1)
        ctx.set(unit.word, 0x123)
        asked: list[int] = []
        for cycle in range(60 + positions * WORDS * (pause + 20)):
            ctx.set(unit.item.valid, cycle >= 3 and len(given) < positions)
            ctx.set(unit.word_valid, cycle - READ_LATENCY in asked)
            ctx.set(unit.words.ready, not taken or cycle - taken[-1] > pause)
            _, _, item, request, word, is_idle = await ctx.tick().sample(
                unit.item.valid & unit.item.ready,
                unit.request.valid,
                unit.words.valid & unit.words.ready,
                unit.idle,
            )
            given.extend([cycle] if item else [])
            asked.extend([cycle] if request else [])
            taken.extend([cycle] if word else [])
            idle.append(is_idle)

    run(unit, system)
    assert len(given) == positions and len(taken) == positions * WORDS
    busy = range(given[0] + 1, taken[-1] + 1)
    assert idle == [cycle not in busy for cycle in range(len(idle))]
