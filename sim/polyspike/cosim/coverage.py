"""Functional coverage: which combinations of what instructions can say have run, and with which stalls.

Nothing here asks the compiler what it meant to do. `Observer` stands between driver and device, keeps the instructions
that are written to the program memory, and reads the counters around every run; `Coverage` collects the crosses that
were hit. A cross is one value of each axis of a `Group`. `Group.crosses` are those that can be reached at all, and
`Group.exclusions` say why the others cannot.
"""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from polyspike.driver.device import Counters
from polyspike.driver.ports import Connection, MemoryPort, Traffic, Words
from polyspike.driver.word_device import read_counters
from polyspike.spec import Configuration, DeviceError
from polyspike.spec.instructions import COMMON_FIRES, FireKind, PassMode, decode
from polyspike.spec.memory import Space

#: A value of each axis of a group, in the order of its axes.
Cross = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """Crosses that cannot be reached, and why. `applies` gets the values by axis."""

    reason: str
    applies: Callable[[Mapping[str, str]], bool]


@dataclasses.dataclass(frozen=True)
class Group:
    """A cross product of axes, less what cannot be reached."""

    name: str
    doc: str
    axes: Mapping[str, tuple[str, ...]]
    exclusions: tuple[Exclusion, ...]

    @property
    def size(self) -> int:
        """Number of crosses, those that cannot be reached included."""
        return math.prod(len(values) for values in self.axes.values())

    def exclusion(self, cross: Cross) -> Exclusion | None:
        """Return the first reason why a cross cannot be reached, if there is one."""
        values = dict(zip(self.axes, cross, strict=True))
        return next((each for each in self.exclusions if each.applies(values)), None)

    @functools.cached_property
    def crosses(self) -> tuple[Cross, ...]:
        """The crosses that can be reached."""
        return tuple(each for each in itertools.product(*self.axes.values()) if self.exclusion(each) is None)

    def excluded(self) -> dict[str, int]:
        """Return how many crosses each reason excludes; of several reasons the first one counts."""
        found = {each.reason: 0 for each in self.exclusions}
        for cross in itertools.product(*self.axes.values()):
            if (exclusion := self.exclusion(cross)) is not None:
                found[exclusion.reason] += 1
        return found

    def text(self, cross: Cross) -> str:
        """Return a cross as it stands in files."""
        return f"{self.name}: " + ", ".join(f"{axis} {value}" for axis, value in zip(self.axes, cross, strict=True))


_HARDWARE = ("compact", "columns")
_MODES = tuple(mode.name for mode in PassMode)
_KINDS = tuple(kind.name for kind in COMMON_FIRES)
_COUNTS = ("4 unsigned", "4 signed", "8 unsigned", "8 signed")
_TIMES = ("1", "2", "3 or more")

#: The counters that tell why a column had no event although it had work.
_STALLS = ("drain", "port", "fetch")

_MAXIMUM_SPIKES = Exclusion(
    "maximum pooling has no weights, no membrane and no parts: it takes one pass, and fires counts",
    lambda at: at["pass"] == "MAXIMUM" and at["fire"] != "SPIKE",
)

PASSES = Group(
    "pass",
    "every pass of every RUN: how its words are read, what it is part of, and what stalled meanwhile",
    {
        "hardware": _HARDWARE,
        "pass": _MODES,
        "format": (*_COUNTS, "sums"),
        "pooling": ("none", "maximum", "sum"),
        "fire": _KINDS,
        "mapping": ("one column", "channels", "positions", "both"),
        "timesteps": _TIMES,
        "stall": _STALLS,
    },
    (
        Exclusion(
            "a compact configuration has one column, the others have several",
            lambda at: (at["hardware"] == "compact") != (at["mapping"] == "one column"),
        ),
        Exclusion(
            "a pass over partial sums reads sums and no counts, and no other pass does",
            lambda at: (at["pass"] == "RAW") != (at["format"] == "sums"),
        ),
        Exclusion(
            "a MAXIMUM pass is maximum pooling, and no other pass is",
            lambda at: (at["pass"] == "MAXIMUM") != (at["pooling"] == "maximum"),
        ),
        Exclusion(
            "pooling is a sum where taps share weights, and sums have no weights",
            lambda at: at["pass"] == "RAW" and at["pooling"] == "sum",
        ),
        _MAXIMUM_SPIKES,
        Exclusion(
            "maximum pooling of counts is exact at one timestep only; the network's verifier refuses more",
            lambda at: at["pass"] == "MAXIMUM" and at["timesteps"] != "1",
        ),
        Exclusion(
            "a single column shares the port of its spike memory with nobody while a RUN is executed",
            lambda at: at["hardware"] == "compact" and at["stall"] == "port",
        ),
    ),
)

FIRES = Group(
    "fire",
    "every RUN: what it fires",
    {
        "hardware": _HARDWARE,
        "fire": _KINDS,
        "format": (*_COUNTS, "32 bits"),
        "rectified": ("no", "yes"),
        "timesteps": _TIMES,
        "mapping": ("one column", "channels", "positions", "both"),
    },
    (
        PASSES.exclusions[0],
        Exclusion(
            "membranes and sums are written with 32 bits, counts are not",
            lambda at: (at["fire"] == "SPIKE") != (at["format"] != "32 bits"),
        ),
        Exclusion(
            "only neurons that spike are rectified", lambda at: at["fire"] != "SPIKE" and at["rectified"] == "yes"
        ),
    ),
)

RUNS = Group(
    "run",
    "every RUN: its passes in order",
    {
        "hardware": _HARDWARE,
        "first": _MODES,
        "second": ("none", *_MODES),
        "fire": _KINDS,
    },
    (
        Exclusion(
            "a RUN with a MAXIMUM pass has no other one, and fires counts",
            lambda at: (
                at["second"] == "MAXIMUM"
                or (at["first"] == "MAXIMUM" and (at["second"] != "none" or at["fire"] != "SPIKE"))
            ),
        ),
        Exclusion("the compiler continues partial sums in the first pass", lambda at: at["second"] == "RAW"),
        Exclusion(
            "sums alone are added up to fire counts or membranes, not to be sums again",
            lambda at: at["first"] == "RAW" and at["second"] == "none" and at["fire"] == "RAW",
        ),
    ),
)

GROUPS = (PASSES, FIRES, RUNS)


def _count_format(wide: int, is_signed: bool) -> str:
    return f"{8 if wide else 4} {'signed' if is_signed else 'unsigned'}"


def _times(timesteps: int) -> str:
    return _TIMES[min(timesteps, 3) - 1]


def _mapping(configuration: Configuration, position_log2: int) -> str:
    if configuration.columns == 1:
        return "one column"
    if position_log2 == 0:
        return "channels"
    return "positions" if 1 << position_log2 == configuration.columns else "both"


class Descriptors:
    """The descriptor registers of a device, as its instructions set them."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._values: dict[tuple[str, int], Mapping[str, int]] = {}

    def execute(self, words: Iterable[int]) -> Iterator[list[tuple[str, Cross]]]:
        """Execute instruction words; yield for every RUN its crosses with the names of their groups.

        Those of group `pass` lack the last axis, the stall.
        """
        for word in words:
            instruction = decode(word)
            name = instruction.format.name
            if name == "HALT":
                return
            if name == "RUN":
                yield self._crosses()
            self._values[name, instruction.values.get("slot", 0)] = instruction.values

    def _crosses(self) -> list[tuple[str, Cross]]:
        shape, fire = self._values["SHAPE", 0], self._values["FIRE", 0]
        hardware = _HARDWARE[0 if self._configuration.compact else 1]
        kind = FireKind(fire["kind"]).name
        mapping = _mapping(self._configuration, shape["position_log2"])
        times = _times(shape["timesteps"])
        written = _count_format(fire["wide"], fire["n_neg"] > 0) if kind == "SPIKE" else "32 bits"
        crosses: list[tuple[str, Cross]] = [
            (FIRES.name, (hardware, kind, written, ("no", "yes")[fire["rectified"]], times, mapping))
        ]
        modes = []
        for slot in range(shape["passes"]):
            weights, window = self._values["WEIGHTS", slot], self._values["WINDOW", slot]
            mode = PassMode(weights["mode"]).name
            modes.append(mode)
            largest = 255 if weights["wide"] else 15
            read = "sums" if mode == "RAW" else _count_format(weights["wide"], weights["positive"] < largest)
            summed = weights["shared"] and window["kernel_h"] * window["kernel_w"] > 1
            pooling = "maximum" if mode == "MAXIMUM" else "sum" if summed else "none"
            crosses.append((PASSES.name, (hardware, mode, read, pooling, kind, mapping, times)))
        crosses.append((RUNS.name, (hardware, modes[0], modes[1] if len(modes) > 1 else "none", kind)))
        return crosses


class Coverage:
    """How often each cross was hit, by the name of its group."""

    def __init__(self) -> None:
        self.hits: dict[str, collections.Counter[Cross]] = {group.name: collections.Counter() for group in GROUPS}

    def add(self, crosses: Iterable[tuple[str, Cross]]) -> None:
        """Count crosses, each with the name of its group.

        Raises
        ------
        DeviceError
            A cross was hit that is said to be unreachable.
        """
        groups = {group.name: group for group in GROUPS}
        for name, cross in crosses:
            if (exclusion := groups[name].exclusion(cross)) is not None:
                raise DeviceError(
                    f"{groups[name].text(cross)} was hit, although it is excluded because {exclusion.reason}"
                )
            self.hits[name][cross] += 1

    def holes(self, group: Group) -> list[Cross]:
        """Return what can be reached and was not."""
        return [cross for cross in group.crosses if not self.hits[group.name][cross]]

    def reached(self, group: Group) -> tuple[int, int]:
        """Return how many crosses of a group were hit, and how many can be reached."""
        return sum(self.hits[group.name][cross] > 0 for cross in group.crosses), len(group.crosses)

    def to_json(self) -> list[dict[str, Any]]:
        """Return every cross that can be reached, whether it was hit, and how often."""
        return [
            {"cross": group.text(cross), "hit": self.hits[group.name][cross] > 0, "count": self.hits[group.name][cross]}
            for group in GROUPS
            for cross in group.crosses
        ]

    def markdown(self) -> str:
        """Return the tables of docs/verification/coverage.md."""
        lines = ["| group | crosses | cannot be reached | reachable | hit | |", "| --- | --- | --- | --- | --- | --- |"]
        total_hit = total = 0
        for group in GROUPS:
            hit, reachable = self.reached(group)
            total_hit, total = total_hit + hit, total + reachable
            lines.append(
                f"| {group.name} | {group.size} | {group.size - reachable} | {reachable} | {hit} "
                f"| {hit / reachable:.1%} |"
            )
        lines.append(f"| all | | | {total} | {total_hit} | {total_hit / total:.1%} |")
        for group in GROUPS:
            lines += ["", f"## Group {group.name}", "", f"{group.doc[0].upper()}{group.doc[1:]}.", ""]
            lines += ["| axis | value | reachable crosses | hit | times |", "| --- | --- | --- | --- | --- |"]
            hits = self.hits[group.name]
            for index, (axis, values) in enumerate(group.axes.items()):
                for value in values:
                    crosses = [cross for cross in group.crosses if cross[index] == value]
                    hit = sum(hits[cross] > 0 for cross in crosses)
                    times = sum(hits[cross] for cross in crosses)
                    lines.append(f"| {axis} | {value} | {len(crosses)} | {hit} | {times:,} |")
            lines += ["", "Cannot be reached:", ""]
            lines += [f"- {count} crosses: {reason}." for reason, count in group.excluded().items() if count]
            holes = self.holes(group)
            lines += ["", f"Holes: {len(holes) or 'none'}", ""]
            lines += [f"- {', '.join(f'{a} {v}' for a, v in zip(group.axes, cross, strict=True))}" for cross in holes]
        return "\n".join(lines).rstrip() + "\n"


class Observer:
    """A memory port that passes everything on, and tells what ran (`polyspike.driver.ports.MemoryPort`).

    Each request to run must execute one RUN, as a traced batch does: only then the counters are its own. `seen` has the
    crosses so far. With `watching` unset nothing is looked at.
    """

    def __init__(self, port: MemoryPort, configuration: Configuration) -> None:
        self._port = port
        self._descriptors = Descriptors(configuration)
        self._program: dict[int, int] = {}
        self.seen: list[tuple[str, Cross]] = []
        self.watching = True

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        """Write words; those of a program are remembered."""
        if space is Space.PROGRAM:
            self._program.update(enumerate(map(int, words), start=address))
        self._port.write(space, mask, address, words, ahead)

    def read(self, space: Space, address: int, count: int) -> Words:
        """Read words."""
        return self._port.read(space, address, count)

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        """Ask for words."""
        return self._port.read_later(space, address, count)

    def run(self, first: int, count: int) -> None:
        """Execute instructions, and see what they were and what stalled.

        Raises
        ------
        DeviceError
            There was not exactly one RUN among them.
        """
        if not self.watching:
            self._port.run(first, count)
            return
        runs = list(self._descriptors.execute(self._program[at] for at in range(first, first + count)))
        if len(runs) != 1:
            raise DeviceError(f"{len(runs)} RUNs in one request; coverage needs one: trace the batch")
        before = read_counters(self._port)
        self._port.run(first, count)
        stalls = _stalls(read_counters(self._port) - before)
        for name, cross in runs[0]:
            if name == PASSES.name:
                self.seen += [(name, (*cross, stall)) for stall in stalls]
            else:
                self.seen.append((name, cross))

    def finish(self) -> None:
        """Wait until everything is done."""
        self._port.finish()

    def traffic(self) -> Traffic | None:
        """Return the bytes moved so far."""
        return self._port.traffic()


def _stalls(counters: Counters) -> list[str]:
    """Return the causes for which columns stalled."""
    return [stall for stall in _STALLS if getattr(counters, f"stall_{stall}")]


def observe(connection: Connection) -> tuple[Connection, Observer]:
    """Return a connection that is observed, and who observes it."""
    observer = Observer(connection.port, connection.configuration)
    return dataclasses.replace(connection, port=observer), observer
