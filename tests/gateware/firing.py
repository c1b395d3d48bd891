"""What the tests of the fire units share: the definition of firing, random layers, and what becomes of their sums."""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from gateware.simulate import describe
from polyspike.cosim.streams import get
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind


def fire(v: int, theta: int, lo: int, n_pos: int) -> tuple[int, int]:
    """Return (spike count, membrane after its reset)."""
    count = max(-lo, min(n_pos, v // theta))
    return count, v - theta * count


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, its parameters, some sums with their tags, and the words that they become: address, data, mask."""

    layer: dict[str, Any]
    theta: list[int]
    bias: list[int]
    v0: list[int]
    sums: list[list[int]]
    tags: list[dict[str, int]]
    words: list[tuple[int, int, int]]


def extremes(generator: random.Random, kind: FireKind, wide: bool) -> dict[str, Any]:
    """Return descriptors of a layer with random limits."""
    most = 255 if wide else 15
    n_neg = generator.choice([0, generator.randint(0, (most + 1) // 2)])
    n_pos = generator.choice([1, generator.randint(1, most - n_neg), most - n_neg])
    rectified = generator.choice([0, 1])
    return {"kind": kind, "wide": int(wide), "n_neg": n_neg, "n_pos": n_pos, "rectified": rectified, "params": 0}


def random_case(configuration: Configuration, generator: random.Random, kind: FireKind) -> Case:
    """Return a random layer with 8-bit or 4-bit counts, and the sums of four positions."""
    lanes, wide = configuration.lanes, configuration.count_bits == 8 and generator.random() < 0.7
    layer = extremes(generator, kind, wide)
    first_channel = lanes * generator.randint(0, 64 // lanes - 1)
    layer["params"] = first_channel
    theta = [generator.choice([1, generator.randint(1, 300), (1 << 19) - 1]) for _ in range(lanes)]
    bias = [generator.randint(-1000, 1000) for _ in range(lanes)]
    v0 = [generator.choice([0, each // 2]) for each in theta]

    sums: list[list[int]] = []
    tags: list[dict[str, int]] = []
    words: list[tuple[int, int, int]] = []
    bits = 8 if wide else 4
    for _ in range(4):
        membranes = list(v0)
        emitted = [0] * lanes
        timesteps = generator.randint(1, 3)
        for time in range(timesteps):
            total = [
                generator.choice(
                    [0, generator.randint(-3 * theta[lane], 20 * theta[lane]), generator.randint(-50, 50), -(1 << 20)]
                )
                for lane in range(lanes)
            ]
            total = [max(-(1 << 21), min((1 << 21) - 1, each)) for each in total]
            address, upper = generator.randint(0, 50), generator.randint(0, 1)
            sums.append(total)
            tags.append(
                {
                    "output": address,
                    "params": first_channel,
                    "upper": upper,
                    "first": time == 0,
                    "last": time == timesteps - 1,
                }
            )
            counts = []
            for lane in range(lanes):
                membranes[lane] += total[lane] + bias[lane]
                if kind == FireKind.SPIKE:
                    lo = min(layer["n_neg"], emitted[lane]) if layer["rectified"] else layer["n_neg"]
                    count, membranes[lane] = fire(membranes[lane], theta[lane], lo, layer["n_pos"])
                    emitted[lane] += count
                    counts.append(count & ((1 << bits) - 1))
            values, value_bits = {
                FireKind.SPIKE: (counts, bits),
                FireKind.MEMBRANE: (membranes, 32),
                FireKind.RAW: (total, 32),
            }[kind]
            if kind == FireKind.MEMBRANE and time < timesteps - 1:
                continue
            packed = sum((value & ((1 << value_bits) - 1)) << (value_bits * at) for at, value in enumerate(values))
            if lanes * value_bits < 64:
                words.append((address, packed << (32 * upper), 0b10 if upper else 0b01))
            else:
                for index in range(lanes * value_bits // 64):
                    words.append((address + index, packed >> (64 * index) & (1 << 64) - 1, 0b11))
    return Case(layer, theta, bias, v0, sums, tags, words)


async def load(ctx: Any, unit: Any, case: Case) -> None:
    """Describe the case's layer to a fire unit, and write its parameters."""
    describe(ctx, unit, fire=case.layer)
    ctx.set(unit.write_enable, 1)
    for lane, (theta, bias, v0) in enumerate(zip(case.theta, case.bias, case.v0, strict=True)):
        for part, word in enumerate((theta | (bias & 0xFFFFFFFF) << 32, v0 & 0xFFFFFFFF)):
            ctx.set(unit.write, {"address": 2 * (case.layer["params"] + lane) + part, "data": word})
            await ctx.tick()
    ctx.set(unit.write_enable, 0)


async def take(ctx: Any, unit: Any, case: Case, stalls: Iterator[int]) -> list[tuple[int, int, int]]:
    """Take as many words from a fire unit as the case has, as address, what the mask enables of the data, and mask."""
    got = []
    for _ in case.words:
        word = await get(ctx, unit.words, next(stalls))
        mask = word.mask
        data = word.data & (0xFFFFFFFF if mask == 1 else 0xFFFFFFFF << 32 if mask == 2 else (1 << 64) - 1)
        got.append((word.address, data, mask))
    return got
