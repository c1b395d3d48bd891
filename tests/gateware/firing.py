"""What the tests of the fire units share: the definition of firing, random layers, and what becomes of their sums."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateware.simulate import describe, plain
from polyspike.cosim.streams import get
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind


def fire(v: int, theta: int, lo: int, n_pos: int, theta_neg: int = 0) -> tuple[int, int]:
    """Return (spike count, membrane after its reset)."""
    count = max(-lo, min(n_pos, v // theta))
    if -theta_neg <= v < 0:
        count = 0
    return count, v - theta * count


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, its parameters, some sums and tags, and the words that they become: address, data, mask.

    Where the configuration has pairs, those of a second position stand behind sums, or, where there is none, anything.
    """

    layer: dict[str, Any]
    theta: list[int]
    bias: list[int]
    v0: list[int]
    theta_neg: list[int]
    sums: list[list[int]]
    tags: list[dict[str, int]]
    words: list[tuple[int, int, int]]
    paired: bool = False


def extremes(generator: random.Random, kind: FireKind, wide: bool) -> dict[str, Any]:
    """Return descriptors of a layer with random limits."""
    most = 255 if wide else 15
    n_neg = generator.choice([0, generator.randint(0, (most + 1) // 2)])
    n_pos = generator.choice([1, generator.randint(1, most - n_neg), most - n_neg])
    rectified = generator.choice([0, 1])
    return {"kind": kind, "wide": int(wide), "n_neg": n_neg, "n_pos": n_pos, "rectified": rectified, "params": 0}


def negative_thresholds(generator: random.Random, theta: list[int]) -> list[int]:
    """Return negative thresholds. Where a configuration has none, what is written there must not matter."""
    return [generator.choice([0, 1, each, min(generator.randint(0, 2 * each), (1 << 19) - 1)]) for each in theta]


def random_case(configuration: Configuration, generator: random.Random, kind: FireKind) -> Case:
    """Return a random layer with 8-bit or 4-bit counts, and the sums of four positions."""
    lanes, wide = configuration.lanes, configuration.count_bits == 8 and generator.random() < 0.7
    layer = extremes(generator, kind, wide)
    layer["params"] = lanes * generator.randint(0, 64 // lanes - 1)
    theta = [generator.choice([1, generator.randint(1, 300), (1 << 19) - 1]) for _ in range(lanes)]
    bias = [generator.randint(-1000, 1000) for _ in range(lanes)]
    v0 = [generator.choice([0, each // 2]) for each in theta]

    theta_neg = negative_thresholds(generator, theta)

    def sum_of(lane: int, before: int) -> int:
        near = [-before, -theta_neg[lane] - before]
        total = generator.choice(
            [
                0,
                generator.randint(-3 * theta[lane], 20 * theta[lane]),
                generator.randint(-50, 50),
                -(1 << 20),
                generator.choice(near) + generator.choice([-2, -1, 0, 1]),
            ]
        )
        return max(-(1 << 21), min((1 << 21) - 1, total))

    return case_of(configuration, generator, layer, theta, bias, v0, theta_neg, sum_of)


def corner_case(configuration: Configuration, generator: random.Random, kind: FireKind) -> Case:
    """Return a layer with extreme thresholds, whose sums take membranes to where firing changes, and to the ends.

    The ends are the largest membranes that the range proof lets pass: those where nothing in the definition of firing,
    v + n_neg * theta included, needs more than `membrane_bits`.
    """
    lanes, wide = configuration.lanes, configuration.count_bits == 8 and generator.random() < 0.7
    largest = (1 << configuration.membrane_bits - 1) - 1
    most = 255 if wide else 15
    n_neg, n_pos = generator.choice([(0, most), ((most + 1) // 2, most // 2), (1, 1), (0, 1), (1, most - 1)])
    layer = {"kind": kind, "wide": int(wide), "n_neg": n_neg, "n_pos": n_pos, "rectified": generator.choice([0, 1])}
    layer["params"] = 64 - lanes
    theta = [generator.choice([1, 1, 2, 1 << 14, (1 << 15) - 1]) for _ in range(lanes)]
    if n_neg < 2:
        theta[:2] = [(1 << 19) - 1, 1 << 18]
    bias = [generator.choice([0, 1000, -(1 << 20)]) for _ in range(lanes)]
    v0 = [generator.choice([0, each // 2]) for each in theta]
    theta_neg = negative_thresholds(generator, theta)

    def sum_of(lane: int, before: int) -> int:
        step = theta[lane]
        targets = [0, -1, step - 1, step, -step, -step - 1, n_pos * step - 1, n_pos * step + step, -n_neg * step - 1]
        targets += [-theta_neg[lane], -theta_neg[lane] - 1]
        v = generator.choice([*targets, largest, largest, -largest, -largest])
        v = max(-largest, min(largest - n_neg * step, v))
        reach = largest - abs(bias[lane])
        return max(-reach, min(reach, v - before))

    return case_of(configuration, generator, layer, theta, bias, v0, theta_neg, sum_of)


def case_of(
    configuration: Configuration,
    generator: random.Random,
    layer: dict[str, Any],
    theta: list[int],
    bias: list[int],
    v0: list[int],
    theta_neg: list[int],
    sum_of: Callable[[int, int], int],
) -> Case:
    """Return the case of a layer: four positions of a few timesteps, and what the definition makes of their sums.

    Where the configuration has pairs, they are mostly four pairs; at each timestep the sum of the first position is
    followed by that of the second one.

    `sum_of` says what is added next in a lane, given its number and the membrane with its bias before the sum.
    """
    lanes, kind = configuration.lanes, layer["kind"]
    sums: list[list[int]] = []
    tags: list[dict[str, int]] = []
    words: list[tuple[int, int, int]] = []
    bits = 8 if layer["wide"] else 4
    paired = bool(configuration.pairs) and kind != FireKind.PROBABILISTIC and generator.random() < 0.8
    for _ in range(4):
        states = [(list(v0), [0] * lanes) for _ in range(2 if paired else 1)]
        timesteps = generator.randint(1, 3)
        for time, (second, (membranes, emitted)) in itertools.product(range(timesteps), enumerate(states)):
            total = [sum_of(lane, membranes[lane] + bias[lane]) for lane in range(lanes)]
            address, upper = generator.randint(0, 50), generator.randint(0, 1)
            if second:
                sums[-1] += total
            else:
                sums.append(total)
            if configuration.pairs and not paired:
                sums[-1] = total + [generator.randint(-1000, 1000) for _ in range(lanes)]
            tags.append(
                {
                    "output": address,
                    "params": layer["params"],
                    "upper": upper,
                    "first": int(time == 0),
                    "last": int(time == timesteps - 1),
                }
                | ({"second": second} if configuration.pairs else {})
            )
            counts = []
            for lane in range(lanes):
                membranes[lane] += total[lane] + bias[lane]
                if kind == FireKind.SPIKE:
                    lo = min(layer["n_neg"], emitted[lane]) if layer["rectified"] else layer["n_neg"]
                    silent = theta_neg[lane] if configuration.negative_threshold else 0
                    count, membranes[lane] = fire(membranes[lane], theta[lane], lo, layer["n_pos"], silent)
                    emitted[lane] += count
                    counts.append(count & ((1 << bits) - 1))
            values, value_bits = {
                FireKind.SPIKE: (counts, bits),
                FireKind.MEMBRANE: (membranes, 32),
                FireKind.RAW: (total, 32),
                FireKind.PROBABILISTIC: (membranes, 32),
            }[kind]
            if kind in (FireKind.MEMBRANE, FireKind.PROBABILISTIC) and time < timesteps - 1:
                continue
            packed = sum((value & ((1 << value_bits) - 1)) << (value_bits * at) for at, value in enumerate(values))
            if lanes * value_bits < 64:
                words.append((address, packed << (32 * upper), 0b10 if upper else 0b01))
            else:
                for index in range(lanes * value_bits // 64):
                    words.append((address + index, packed >> (64 * index) & (1 << 64) - 1, 0b11))
    return Case(layer, theta, bias, v0, theta_neg, sums, tags, words, paired)


def parameter_words(case: Case) -> Iterator[tuple[int, int]]:
    """Yield the host's writes of a case's parameters: address and word."""
    parameters = zip(case.theta, case.bias, case.v0, case.theta_neg, strict=True)
    for lane, (theta, bias, v0, theta_neg) in enumerate(parameters):
        for part, word in enumerate((theta | (bias & 0xFFFFFFFF) << 32, v0 & 0xFFFFFFFF | theta_neg << 32)):
            yield 2 * (case.layer["params"] + lane) + part, word


def meaning(word: Mapping[str, int]) -> tuple[int, int, int]:
    """Return what a word of a fire unit says: address, what the mask enables of the data, and mask."""
    data, mask = word["data"], word["mask"]
    return word["address"], data & (0xFFFFFFFF * (mask & 1) | (0xFFFFFFFF << 32) * (mask >> 1)), mask


async def load(ctx: Any, unit: Any, case: Case) -> None:
    """Describe the case's layer to a fire unit, and write its parameters."""
    describe(ctx, unit, fire=case.layer)
    if case.paired:
        ctx.set(unit.paired, 1)
    ctx.set(unit.write_enable, 1)
    for address, word in parameter_words(case):
        ctx.set(unit.write, {"address": address, "data": word})
        await ctx.tick()
    ctx.set(unit.write_enable, 0)


async def take(ctx: Any, unit: Any, case: Case, stalls: Iterator[int]) -> list[tuple[int, int, int]]:
    """Take as many words from a fire unit as the case has; return their meaning."""
    return [meaning(plain(await get(ctx, unit.words, next(stalls)))) for _ in case.words]
