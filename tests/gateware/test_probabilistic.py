"""Random firing against its definition, number by number."""

import itertools
import random
from typing import Any

import pytest

from gateware.firing import meaning
from gateware.simulate import describe, plain, run
from polyspike.cosim.streams import STALLS, get, put
from polyspike.gateware.probabilistic import Probabilistic
from polyspike.spec import SMALL, TINY, Configuration
from polyspike.spec.instructions import FireKind
from polyspike.spec.lfsr import DRAW_BITS, TAPS, jump_over, step

SIZES = {"weight_depth": 64, "spike_depth": 256, "param_depth": 64, "program_depth": 64}

CONFIGURATIONS = {
    8: TINY.replace(name="test", probabilistic=1, **SIZES),
    16: SMALL.replace(name="test", columns=1, probabilistic=1, **SIZES),
}


def draw(state: int, taps: int) -> tuple[int, int]:
    """Return a number and the state behind it."""
    number = 0
    for bit in range(DRAW_BITS):
        number |= (state & 1) << bit
        state = step(state, taps)
    return number, state


class Layer:
    """A layer of two tiles, some positions of it, and what the definition makes of their membranes."""

    def __init__(self, configuration: Configuration, generator: random.Random) -> None:
        self.lanes = lanes = configuration.lanes
        self.taps = generator.choice([TAPS, 0xB400])
        self.timesteps = generator.choice([1, 2, 3, 5])
        self.time_pitch = generator.randrange(20)
        self.channels = 2 * lanes - 3
        self.params = lanes * generator.randrange(2)
        largest = 1 << configuration.membrane_bits - 6
        self.theta = [generator.choice([1, 2, 1000, largest, generator.randint(1, largest)]) for _ in range(2 * lanes)]
        self.positions: list[dict[str, int]] = []
        self.inputs: list[list[dict[str, int]]] = []
        self.words: list[tuple[int, int, int]] = []
        for _ in range(4):
            self._position(configuration, generator)

    def _position(self, configuration: Configuration, generator: random.Random) -> None:
        lanes, tile = self.lanes, generator.randrange(2)
        start = generator.randrange(1, 1 << self.taps.bit_length())
        upper, address = generator.randrange(2), generator.randrange(64)
        self.positions.append({"params": self.params + tile * lanes, "upper": upper, "random": start})
        theta = self.theta[tile * lanes : (tile + 1) * lanes]
        v = [self._membrane(configuration, generator, each) for each in theta]
        pairs = [v[at] & 0xFFFFFFFF | (v[at + 1] & 0xFFFFFFFF) << 32 for at in range(0, lanes, 2)]
        # What fire units make of addresses and masks does not matter but for the first word's.
        self.inputs.append([{"address": address + at, "data": pair, "mask": 3} for at, pair in enumerate(pairs)])
        numbers = []
        state = start
        for _ in range(self.timesteps * self.channels + lanes):
            number, state = draw(state, self.taps)
            numbers.append(number)
        for t in range(self.timesteps):
            word = 0
            for lane in range(lanes):
                r = numbers[t * self.channels + tile * lanes + lane]
                fires = v[lane] > 0 and v[lane] << 16 > r * theta[lane] * (self.timesteps - t)
                v[lane] -= theta[lane] * fires
                word |= fires << 4 * lane
            half = lanes == 8 and upper
            self.words.append((address + t * self.time_pitch, word << 32 * half, 3 if lanes == 16 else 1 << half))

    def _membrane(self, configuration: Configuration, generator: random.Random, theta: int) -> int:
        """A membrane where there is something to decide, or at an end."""
        limit = (1 << configuration.membrane_bits - 1) - 1
        near = generator.choice([0, 1, -1, theta, self.timesteps * theta])
        between = generator.randint(-theta, self.timesteps * theta)
        return max(-limit, min(limit, generator.choice([near, between, between, between, limit, -limit])))


async def load(ctx: Any, unit: Any, layer: Layer) -> None:
    """Describe a layer, and write its parameters."""
    random_values = {"taps": layer.taps, "timestep": jump_over(layer.channels, layer.taps)}
    describe(
        ctx,
        unit.layer,
        fire={"kind": FireKind.PROBABILISTIC},
        extent={"timesteps": layer.timesteps},
        output={"time_pitch": layer.time_pitch},
        random=random_values,
    )
    ctx.set(unit.write_enable, 1)
    for channel, theta in enumerate(layer.theta):
        jump = jump_over(channel, layer.taps) if channel % layer.lanes == 0 else 0
        for part, word in enumerate((theta | 0xABCD << 32, 0x1234 | jump << 32)):
            ctx.set(unit.write, {"address": 2 * (layer.params + channel) + part, "data": word})
            await ctx.tick()
    ctx.set(unit.write_enable, 0)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", CONFIGURATIONS)
def test_fires_as_defined(lanes: int, stall: str) -> None:
    unit = Probabilistic(CONFIGURATIONS[lanes])
    layer = Layer(CONFIGURATIONS[lanes], random.Random(f"{lanes} {stall}"))
    got: list[tuple[int, int, int]] = []

    async def feed(ctx: Any) -> None:
        await load(ctx, unit, layer)
        assert ctx.get(unit.idle)
        stalls = STALLS[stall](1)
        for position, words in zip(layer.positions, layer.inputs, strict=True):
            await put(ctx, unit.position, position, next(stalls))
            for word in words:
                await put(ctx, unit.i, word, next(stalls))
                assert not ctx.get(unit.idle)

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](2)
        for _ in layer.words:
            got.append(meaning(plain(await get(ctx, unit.o, next(stalls)))))
        assert ctx.get(unit.idle)

    run(unit, feed, collect)
    assert got == layer.words


def test_words_of_other_layers_pass() -> None:
    unit = Probabilistic(CONFIGURATIONS[8])
    words = [{"address": at, "data": at * 0x0123456789, "mask": at % 3 + 1} for at in range(20)]
    got = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit.layer, fire={"kind": FireKind.SPIKE})
        for word in words:
            await put(ctx, unit.i, word)

    async def collect(ctx: Any) -> None:
        stalls = STALLS["random"](3)
        for _ in words:
            got.append(plain(await get(ctx, unit.o, next(stalls))))
            assert ctx.get(unit.idle)

    run(unit, feed, collect)
    assert got == words


@pytest.mark.parametrize("lanes", CONFIGURATIONS)
def test_rate(lanes: int) -> None:
    """Cycles of a position and of its timesteps, as documented."""
    unit = Probabilistic(CONFIGURATIONS[lanes])
    layer = Layer(CONFIGURATIONS[lanes], random.Random(5))
    taken: list[int] = []

    async def feed(ctx: Any) -> None:
        await load(ctx, unit, layer)
        for position in layer.positions[:3]:
            await put(ctx, unit.position, position)
        for words in layer.inputs[:3]:
            for word in words:
                await put(ctx, unit.i, word)

    async def collect(ctx: Any) -> None:
        ctx.set(unit.o.ready, 1)
        cycle = 0
        while len(taken) < 3 * layer.timesteps:
            _, _, valid = await ctx.tick().sample(unit.o.valid)
            cycle += 1
            if valid:
                taken.append(cycle)

    run(unit, feed, collect)
    steps = [after - before for before, after in itertools.pairwise(taken)]
    each = (lanes + 1) * 9 + 3
    assert layer.timesteps > 1
    assert set(steps[: layer.timesteps - 1]) == {each}
    assert steps[layer.timesteps - 1] == lanes + 34 + each
