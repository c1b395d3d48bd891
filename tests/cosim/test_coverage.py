"""Functional coverage: what counts as hit, what can be reached, and networks that are aimed at something."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyspike.compiler import compile
from polyspike.cosim.coverage import FIRES, GROUPS, PASSES, RUNS, Coverage, Cross, Descriptors, Group, Observer
from polyspike.cosim.random_networks import Aim, aimed_network
from polyspike.driver.ports import Traffic, Words
from polyspike.spec import TINY, DeviceError
from polyspike.spec.instructions import (
    FIRE,
    OUTPUT,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    PassMode,
    encode,
    make,
)
from polyspike.spec.memory import Space
from polyspike.spec.registers import COUNTERS

QUAD = TINY.replace(name="quad", columns=4, compact=0, unpacker=1)
FILE = Path(__file__).parents[2] / "docs" / "verification" / "coverage.json"


def layer(**changes: int) -> list[int]:
    """Return the instructions of a layer of one pass."""
    weights = {"mode": PassMode.ELEMENTWISE, "base": 0, "words": 1, "tile_step": 9, "shared": 1, "wide": 1}
    weights |= {"positive": 200, "shift": 0}
    window = {
        "height": 4,
        "width": 4,
        "kernel_h": 2,
        "kernel_w": 1,
        "stride_y": 1,
        "stride_x": 1,
        "pad_y": 0,
        "pad_x": 0,
    }
    shape = {"height": 3, "width": 4, "timesteps": 3, "tiles": 2, "position_log2": 1, "passes": 1, "pairs": 0}
    fire = {"kind": FireKind.SPIKE, "params": 0, "wide": 0, "n_neg": 0, "n_pos": 15, "rectified": 1}
    for fields in (weights, window, shape, fire):
        fields |= {
            name: value for name, value in changes.items() if name in fields and (name != "wide" or fields is weights)
        }
    code = [
        make(SOURCE, slot=0, origin=0, row_pitch=4, pixel_pitch=1, time_pitch=16),
        make(WINDOW, slot=0, **window),
        make(WEIGHTS, slot=0, **weights),
        make(OUTPUT, base=0, row_pitch=1, pixel_pitch=1, time_pitch=1),
        make(SHAPE, **shape),
        make(FIRE, **fire),
        make(RUN),
    ]
    return [encode(each) for each in code]


class Port:
    """A device that does nothing but count."""

    def __init__(self, **gains: int) -> None:
        self.gains = gains
        self.counters = dict.fromkeys((register.name for register in COUNTERS), 0)

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        pass

    def read(self, space: Space, address: int, count: int) -> Words:
        return np.array([self.counters[register.name] for register in COUNTERS], np.uint64)

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        raise AssertionError

    def run(self, first: int, count: int) -> None:
        for name, gain in self.gains.items():
            self.counters[name] += gain

    def finish(self) -> None:
        pass

    def traffic(self) -> Traffic | None:
        return None


def seen(port: Port, words: list[int], first: int = 0) -> list[tuple[str, Cross]]:
    observer = Observer(port, QUAD)
    observer.write(Space.PROGRAM, 0, 0, np.array(words, np.uint64))
    observer.run(first, len(words) - first)
    return observer.seen


def test_a_run_is_what_its_instructions_say() -> None:
    found = seen(Port(STALL_PORT=3, STALL_FETCH=1, STALL_IDLE=5), layer())
    common = ("columns", "ELEMENTWISE", "8 signed", "sum", "SPIKE", "both", "3 or more")
    assert found == [
        (FIRES.name, ("columns", "SPIKE", "4 unsigned", "yes", "3 or more", "both")),
        (PASSES.name, (*common, "port")),
        (PASSES.name, (*common, "fetch")),
        (RUNS.name, ("columns", "ELEMENTWISE", "none", "SPIKE")),
    ]


@pytest.mark.parametrize(
    ("changes", "axis", "value"),
    [
        ({"positive": 255}, "format", "8 unsigned"),
        ({"kernel_h": 1}, "pooling", "none"),
        ({"shared": 0}, "pooling", "none"),
        ({"mode": PassMode.BROADCAST}, "pass", "BROADCAST"),
        ({"position_log2": 0}, "mapping", "channels"),
        ({"position_log2": 2}, "mapping", "positions"),
        ({"timesteps": 1}, "timesteps", "1"),
        ({"timesteps": 200}, "timesteps", "3 or more"),
        ({"kind": FireKind.RAW}, "fire", "RAW"),
    ],
)
def test_each_axis(changes: dict[str, int], axis: str, value: str) -> None:
    (cross,) = [cross for name, cross in seen(Port(STALL_DRAIN=1), layer(**changes)) if name == PASSES.name]
    assert dict(zip(PASSES.axes, cross, strict=True))[axis] == value


def test_only_what_runs_counts() -> None:
    first = layer()
    assert seen(Port(STALL_DRAIN=1), [*layer(timesteps=1), *first], first=7) == seen(Port(STALL_DRAIN=1), first)
    with pytest.raises(DeviceError, match="2 RUNs in one request"):
        seen(Port(), [*first, *first])
    observer = Observer(Port(STALL_DRAIN=1), QUAD)
    observer.watching = False
    observer.write(Space.PROGRAM, 0, 0, np.array(first, np.uint64))
    observer.run(0, len(first))
    assert observer.seen == []


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_every_cross_is_reachable_or_excluded(group: Group) -> None:
    crosses = list(group.crosses)
    assert len(crosses) + sum(group.excluded().values()) == group.size
    assert all(group.excluded().values()), "a reason that excludes nothing is none"
    coverage = Coverage()
    assert coverage.holes(group) == crosses and coverage.reached(group) == (0, len(crosses))
    coverage.add([(group.name, crosses[3]), (group.name, crosses[3])])
    assert coverage.reached(group) == (1, len(crosses)) and crosses[3] not in coverage.holes(group)
    (hit,) = [entry for entry in coverage.to_json() if entry["hit"]]
    assert hit == {"cross": group.text(crosses[3]), "hit": True, "count": 2}
    text = coverage.markdown()
    assert f"Holes: {len(crosses) - 1}\n" in text


def test_an_excluded_cross_that_is_hit_is_an_error() -> None:
    cross = ("compact", "BROADCAST", "4 signed", "none", "SPIKE", "one column", "1", "port")
    with pytest.raises(DeviceError, match=r"compact, pass BROADCAST.* although it is excluded because a single column"):
        Coverage().add([(PASSES.name, cross)])


@pytest.mark.parametrize("configuration", [TINY, QUAD], ids=["tiny", "quad"])
@pytest.mark.parametrize(
    ("aim", "wanted"),
    [
        (Aim(("conv",), 4, True, 2, "positions"), ("BROADCAST", "4 signed", "none", "SPIKE", "positions", "2")),
        (Aim(("shared",), 8, False, 1, "both"), ("BROADCAST", "8 unsigned", "sum", "SPIKE", "both", "1")),
        (
            Aim(("sumpool", "conv"), 8, True, 3, "channels", membrane=True),
            ("ELEMENTWISE", "8 signed", "sum", "MEMBRANE", "channels", "3 or more"),
        ),
        (Aim(("maxpool",), 4, False, 1, "channels"), ("MAXIMUM", "4 unsigned", "maximum", "SPIKE", "channels", "1")),
        (
            Aim(("conv", "depthwise", "conv"), 8, False, 2, "positions"),
            ("ELEMENTWISE", "8 unsigned", "none", "RAW", "positions", "2"),
        ),
        (
            Aim(("conv", "conv", "depthwise", "conv"), 8, False, 2, "positions"),
            ("RAW", "sums", "none", "RAW", "positions", "2"),
        ),
    ],
)
def test_aims_are_met(aim: Aim, wanted: tuple[str, ...], configuration: object) -> None:
    """Not by every seed, because the compiler chooses how columns are used; but by most."""
    assert isinstance(configuration, type(TINY))
    met = 0
    aim = dataclasses.replace(aim, columns=configuration.columns)
    for seed in range(6):
        program = compile(aimed_network(seed, aim), configuration)
        words = [encode(each) for segment in program.segments for each in segment.instructions]
        crosses = [cross[1:] for run in Descriptors(configuration).execute(words) for name, cross in run]
        expected = wanted if configuration is QUAD else (*wanted[:4], "one column", wanted[5])
        met += expected in crosses
    assert met >= 4


def test_the_committed_table_is_of_these_crosses() -> None:
    """`make cosim-long` writes it anew."""
    entries = json.loads(FILE.read_text())
    assert [entry["cross"] for entry in entries] == [group.text(cross) for group in GROUPS for cross in group.crosses]
    assert sum(entry["hit"] for entry in entries) >= 0.95 * len(entries)
