"""A component in a cocotb bench: its ports by the names of its members, and the far ends of its streams."""

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import cocotb
from amaranth.lib.wiring import In
from cocotb import Param
from cocotb.triggers import FallingEdge, RisingEdge

from .cocotb_streams import PATIENCE, PERIOD_NS, StreamDriver, StreamMonitor, StreamSink, cycle, start, wait
from .payload import Item, Payload
from .scoreboard import Scoreboard
from .streams import BENCH_STALLS, Stalls, stall_matrix

_Option = TypeVar("_Option")

#: For `cocotb.test`: many times what a test of one block takes, in case that the block takes no more items.
BOUND: dict[str, Any] = {"timeout_time": 5 * PATIENCE * PERIOD_NS, "timeout_unit": "ns"}

#: Cycles in which nothing more may come behind the last expected item.
_SETTLE = 64


def stall_runs(*streams: str) -> list[Param]:
    """Return `stall_matrix` for `cocotb.parametrize`, each run named after its patterns."""
    return [Param(run, "-".join(run.values())) for run in stall_matrix(streams)]


def seeds() -> range:
    """Return the seeds to run a bench with: POLYSPIKE_SEEDS of the environment says how many, 1 if unset."""
    return range(int(os.environ.get("POLYSPIKE_SEEDS", "1")))


class Bench:
    """The ports of a component under test.

    Parameters
    ----------
    dut
        The design: the component's Verilog.
    component
        The component, or another one with the same parameters: only its signature counts.
    stalls
        The name of a pattern of `BENCH_STALLS` for streams by name; the others have none.
    seed
        For the stalls, and for `random`.
    """

    def __init__(self, dut: Any, component: Any, stalls: Mapping[str, str] | None = None, seed: int = 0) -> None:
        self.dut = dut
        #: For the bench's items; another one for another component, seed or stalls.
        self.random = random.Random(f"{type(component).__name__} {seed} {stalls}")
        self._stalls = dict(stalls or {})
        patterns = list(BENCH_STALLS)
        first, second = [*(patterns.index(name) for name in self._stalls.values()), 0, 0][:2]
        self._number = len(patterns) * first + second + seed
        self._shapes: dict[str, Payload] = {}
        self._inputs: list[str] = []
        self._streams: dict[str, Any] = {}
        outputs = []
        members = {".".join(map(str, path)): member for path, member, _ in component.signature.flatten(component)}
        for name, member in members.items():
            self._shapes[name] = Payload(member.shape)
            if member.flow == In:
                self._inputs.append(name)
            stream, _, last = name.rpartition(".")
            if last == "valid":
                self._streams[stream] = members[f"{stream}.payload"].shape
                if member.flow != In:
                    outputs.append(stream)
        self._outputs = outputs
        self._monitors: dict[str, StreamMonitor] = {}

    async def start(self) -> None:
        """Set inputs to zero, start the clock, reset, and watch the rules of every stream that the design sends."""
        for name in self._inputs:
            self._port(name).value = 0
        await start(self.dut)
        for name in self._outputs:
            self.monitor(name)

    def _port(self, name: str) -> Any:
        return getattr(self.dut, name.replace(".", "__"))

    def set(self, name: str, item: Item) -> None:
        """Drive an input."""
        self._port(name).value = self._shapes[name].pack(item)

    def get(self, name: str) -> Any:
        """Return what a port has at present."""
        return self._shapes[name].unpack(int(self._port(name).value))

    def describe(self, **registers: Mapping[str, int] | Sequence[Mapping[str, int]]) -> None:
        """Set descriptor registers: `fire={"n_pos": 3}`, or, where the component has an array of them, a list."""
        for register, values in registers.items():
            if isinstance(values, Mapping):
                described = {register: values}
            else:
                described = {f"{register}.{index}": fields for index, fields in enumerate(values)}
            for prefix, fields in described.items():
                for field, value in fields.items():
                    self.set(f"{prefix}.{field}", int(value))

    def turn(self, options: Sequence[_Option]) -> _Option:
        """Return one of several options, the next one in each run of the stall matrix, and one further for each seed.

        So every run has every option when there are as many seeds as options.
        """
        return options[self._number % len(options)]

    async def wait(self, cycles: int) -> None:
        """Let cycles pass."""
        await wait(self.dut, cycles)

    def stalls(self, stream: str) -> Stalls:
        """Return the stalls that a stream has in this run."""
        return BENCH_STALLS[self._stalls.get(stream, "none")](self.random.getrandbits(32))

    def driver(self, stream: str, stalled: bool = True) -> StreamDriver:
        """Return a driver of one of the component's inputs, with its stalls, or without any for what only prepares."""
        stalls = self.stalls(stream) if stalled else None
        return StreamDriver(self.dut, stream, self._streams[stream], stalls)

    async def load(self, words: Iterable[tuple[int, int]]) -> None:
        """Write words through `write` and `write_enable`, as the host loads a block: pairs of address and word."""
        self.set("write_enable", 1)
        for address, word in words:
            self.set("write", {"address": address, "data": word})
            await self.wait(1)
        self.set("write_enable", 0)

    def monitor(self, stream: str) -> StreamMonitor:
        """Return the monitor of one of the component's streams, which watches from the first call, or `start`, on."""
        if stream not in self._monitors:
            self._monitors[stream] = StreamMonitor(self.dut, stream, self._streams[stream])
        return self._monitors[stream]

    def sink(self, stream: str) -> StreamSink:
        """Return a sink for one of the component's outputs, with its stalls."""
        return StreamSink(self.dut, stream, self._streams[stream], self.stalls(stream))

    async def compare(
        self, stream: str, expected: Sequence[Item], meaning: Callable[[Any], Item] = lambda item: item
    ) -> None:
        """Take items from one of the component's outputs, with its stalls, and compare what they mean.

        Returns when all have come, and nothing more behind them.

        Raises
        ------
        AssertionError
            They were others, or too few or too many; see `Scoreboard` and `StreamSink`.
        """
        scoreboard = Scoreboard(stream, expected)

        def receive(item: Any, at: int) -> None:
            scoreboard.receive(meaning(item), at)

        receivers = self.monitor(stream).receivers
        receivers.append(receive)
        await self.sink(stream).take(len(expected))
        await self.wait(_SETTLE)
        receivers.remove(receive)

    def pulses(self, output: str) -> list[int]:
        """Return a list that gets every cycle in which a one-bit output is high."""
        cycles: list[int] = []
        signal = self._port(output)

        async def count() -> None:
            rises, settled = RisingEdge(signal), FallingEdge(self.dut.clk)
            while True:
                await rises
                await settled
                while signal.value:
                    cycles.append(cycle())
                    await settled

        cocotb.start_soon(count())
        return cycles
