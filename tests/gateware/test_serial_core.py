"""Which rate a board uses, and what its lights show. The whole board is in tests/cosim/test_board.py."""

from typing import Any

import pytest

from gateware.simulate import run
from polyspike.gateware.serial_core import GLIMPSE, HALF_SECOND, RateControl, Stretch

BASE, FAST = 217, 9

#: Cycles a beat here.
BEAT = 7


class Host:
    """Plays everything around a rate control."""

    def __init__(self, ctx: Any, rate: RateControl) -> None:
        self.ctx, self.rate = ctx, rate
        self.now = 0

    async def tick(self, cycles: int = 1, **inputs: int) -> None:
        for name, value in inputs.items():
            self.ctx.set(getattr(self.rate, name), value)
        for _ in range(cycles):
            self.ctx.set(self.rate.beat, self.now % BEAT == 0)
            await self.ctx.tick()
            self.now += 1
        for name in inputs:
            if name in ("heard", "answering"):
                self.ctx.set(getattr(self.rate, name), 0)

    @property
    def divisor(self) -> int:
        return int(self.ctx.get(self.rate.divisor))

    async def request(self, wanted: int | None = None) -> list[int]:
        """Send a request, which may write the register, and return the divisors while it is answered."""
        seen = []
        await self.tick(heard=1)
        await self.tick(20)
        if wanted is not None:
            self.ctx.set(self.rate.wanted, wanted)
        for _ in range(9):
            # A byte is taken, is on the line for a while, and the next one waits meanwhile.
            await self.tick(answering=1, pending=1, idle=0)
            for _ in range(30):
                await self.tick()
                seen.append(self.divisor)
        await self.tick(5, pending=0)
        seen.append(self.divisor)
        await self.tick(2, idle=1)
        return seen


def simulate(scenario: Any) -> None:
    rate = RateControl(BASE)

    async def testbench(ctx: Any) -> None:
        ctx.set(rate.idle, 1)
        host = Host(ctx, rate)
        await host.tick()
        assert host.divisor == BASE
        await scenario(host)

    run(rate, testbench)


def test_a_rate_takes_effect_when_its_answer_has_left() -> None:
    async def scenario(host: Host) -> None:
        assert set(await host.request(FAST)) == {BASE}
        assert host.divisor == FAST
        assert set(await host.request(30)) == {FAST}
        assert host.divisor == 30
        assert set(await host.request(0)) == {30}
        assert host.divisor == BASE

    simulate(scenario)


def test_an_answer_that_was_leaving_already_does_not_count() -> None:
    async def scenario(host: Host) -> None:
        await host.tick(answering=1, idle=0)
        await host.tick(20)
        await host.tick(50, wanted=FAST, idle=1)
        assert host.divisor == BASE

    simulate(scenario)


def test_what_is_not_understood_brings_the_base_rate_back() -> None:
    async def scenario(host: Host) -> None:
        await host.request(FAST)
        await host.tick(heard=1)
        await host.tick(HALF_SECOND * BEAT - 1)
        assert host.divisor == FAST
        await host.tick(2 * BEAT)
        assert host.divisor == BASE
        # The register still holds the fast rate; it counts again once it has been 0.
        await host.request()
        await host.request(30)
        assert host.divisor == BASE
        await host.request(0)
        await host.request(FAST)
        assert host.divisor == FAST

    simulate(scenario)


def test_half_a_second_counts_from_the_first_sign_of_the_host() -> None:
    async def scenario(host: Host) -> None:
        await host.request(FAST)
        for _ in range(2 * HALF_SECOND):
            await host.tick(heard=1)
            await host.tick(BEAT - 1)
        assert host.divisor == BASE

    simulate(scenario)


def test_a_silent_host_keeps_its_rate() -> None:
    async def scenario(host: Host) -> None:
        await host.request(FAST)
        await host.tick(5 * HALF_SECOND * BEAT)
        assert host.divisor == FAST

    simulate(scenario)


def test_answers_and_runs_hold_the_rate() -> None:
    async def scenario(host: Host) -> None:
        await host.request(FAST)
        for _ in range(4):
            await host.tick(heard=1)
            await host.tick((HALF_SECOND - 1) * BEAT)
            await host.tick(answering=1)
        assert host.divisor == FAST
        await host.tick(heard=1)
        await host.tick(4 * HALF_SECOND * BEAT, busy=1)
        await host.tick(4 * HALF_SECOND * BEAT, busy=0)
        assert host.divisor == FAST

    simulate(scenario)


@pytest.mark.parametrize("beats", [GLIMPSE, HALF_SECOND])
@pytest.mark.parametrize("phase", range(0, BEAT, 2))
def test_a_pulse_is_shown(beats: int, phase: int) -> None:
    stretch = Stretch(beats)
    shown: list[int] = []

    async def testbench(ctx: Any) -> None:
        for now in range((beats + 4) * BEAT):
            ctx.set(stretch.beat, now % BEAT == 0)
            ctx.set(stretch.trigger, now == phase)
            _, _, value = await ctx.tick().sample(stretch.shown)
            shown.append(value)

    run(stretch, testbench)
    first, length = shown.index(1), sum(shown)
    assert first == phase + 1
    assert shown[first : first + length] == [1] * length
    assert beats * BEAT <= length <= (beats + 1) * BEAT
