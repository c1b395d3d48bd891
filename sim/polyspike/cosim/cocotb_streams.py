"""Clock, reset, and the far ends of a design's streams in a cocotb bench.

A stream port `a.b` of an Amaranth component is `a__b__payload`, `a__b__valid` and `a__b__ready` in Verilog, its
payload one flat vector. Everything here writes after a rising edge of `clk` and reads at the falling one, when all has
settled: what is read then is what the next rising edge acts on, whichever simulator runs.
"""

from collections.abc import Callable, Iterable
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, RisingEdge, SimTimeoutError, Timer, ValueChange, with_timeout
from cocotb.utils import get_sim_time

from .payload import Item, Payload
from .streams import Stalls, no_stalls

#: Length of a clock cycle.
PERIOD_NS = 10

#: Cycles in which an item that is due has to be offered.
PATIENCE = 20_000


def cycle() -> int:
    """Return the cycles that have passed since the simulation began."""
    return round(get_sim_time("ns")) // PERIOD_NS


async def wait(dut: Any, cycles: int) -> None:
    """Return behind the next rising edge but `cycles` - 1."""
    if cycles > 1:
        # To between two edges, where it does not matter which of two things happens first.
        await Timer((cycles - 1) * PERIOD_NS * 1000 + PERIOD_NS * 250, "ps")
    await RisingEdge(dut.clk)


async def start(dut: Any) -> None:
    """Start the clock and reset the design. Inputs are best driven before."""
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
    await wait(dut, 2)
    dut.rst.value = 0
    await wait(dut, 1)


class _StreamPort:
    """The signals of a stream's port."""

    def __init__(self, dut: Any, name: str, shape: Any) -> None:
        self._dut, self.name = dut, name
        prefix = name.replace(".", "__")
        self._payload = getattr(dut, f"{prefix}__payload")
        self._valid = getattr(dut, f"{prefix}__valid")
        self._ready = getattr(dut, f"{prefix}__ready")
        self._shape = Payload(shape)
        assert len(self._payload) == self._shape.width, f"stream {name} has {len(self._payload)} bits, not {shape}"
        self._settled = FallingEdge(dut.clk)
        self._edge = RisingEdge(dut.clk)


class StreamDriver(_StreamPort):
    """Offers items to a stream of the design.

    Parameters
    ----------
    dut, name
        The design, and the stream's member name, such as "fetched" or "pass0.source".
    shape
        Its payload's shape; items are what `Payload` packs.
    stalls
        Cycles to wait before each item is offered.
    """

    def __init__(self, dut: Any, name: str, shape: Any, stalls: Stalls | None = None) -> None:
        super().__init__(dut, name, shape)
        self._stalls = no_stalls() if stalls is None else stalls
        self._payload.value = 0
        self._valid.value = 0

    async def send(self, items: Iterable[Item]) -> None:
        """Offer items one after the other, from the next rising edge on; return when the last was taken."""
        taken = RisingEdge(self._ready)
        await self._edge
        for item in items:
            if stall := next(self._stalls):
                self._valid.value = 0
                await wait(self._dut, stall)
            self._payload.value = self._shape.pack(item)
            self._valid.value = 1
            await self._settled
            while not self._ready.value:
                # Sleeping until something changes spares the simulator a call each cycle.
                await taken
                await self._settled
            await self._edge
        self._valid.value = 0


class StreamSink(_StreamPort):
    """Takes items from a stream of the design. What they are is for a `StreamMonitor` to say.

    A stall counts from when the item is offered, so a stream whose `valid` waits for `ready` never moves under stalls,
    which is an error.

    Parameters
    ----------
    dut, name, shape
        As for `StreamDriver`.
    stalls
        Cycles to wait before each item is taken.
    """

    def __init__(self, dut: Any, name: str, shape: Any, stalls: Stalls | None = None) -> None:
        super().__init__(dut, name, shape)
        self._stalls = no_stalls() if stalls is None else stalls
        self._ready.value = 0

    async def take(self, count: int) -> None:
        """Take so many items from the next rising edge on; `ready` stays high then.

        Raises
        ------
        AssertionError
            An item was not offered within `PATIENCE` cycles.
        """
        await self._edge
        for taken in range(count):
            if stall := next(self._stalls):
                self._ready.value = 0
                await self._offered(f"item {taken} of {count}, while ready was low, for which valid must not wait")
                await wait(self._dut, stall)
            self._ready.value = 1
            await self._offered(f"item {taken} of {count}, while ready was high")
            await self._edge
        self._ready.value = 1

    async def _offered(self, what: str) -> None:
        await self._settled
        while not self._valid.value:
            try:
                await with_timeout(RisingEdge(self._valid), PATIENCE * PERIOD_NS, "ns")
            except SimTimeoutError:
                raise AssertionError(
                    f"stream {self.name}: {PATIENCE} cycles without {what} (cycle {cycle()})"
                ) from None
            await self._settled


class StreamMonitor(_StreamPort):
    """Watches a stream of the design from now on: whether it keeps the rules, and what passes.

    Once `valid` is set, `valid` and `payload` hold until the transfer, and neither is unknown. That `valid` does not
    wait for `ready` shows in a `StreamSink` with stalls.

    Parameters
    ----------
    dut, name, shape
        As for `StreamDriver`.
    receivers
        Called with each item that passes and the cycle; `receivers` may get more of them later.
    """

    def __init__(self, dut: Any, name: str, shape: Any, *receivers: Callable[[Any, int], None]) -> None:
        super().__init__(dut, name, shape)
        self.receivers = list(receivers)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        offered = RisingEdge(self._valid)
        held: int | None = None
        while True:
            await self._settled
            valid, value, ready = self._valid.value, self._payload.value, self._ready.value
            try:
                if not valid:
                    assert held is None, f"{self._here()}: valid fell before the transfer"
                    await offered
                    continue
                payload, passes = int(value), bool(ready)
            except ValueError:
                text = f"{self._here()}: something is unknown: valid {valid}, ready {ready}, payload {value}"
                raise AssertionError(text) from None
            assert held is None or payload == held, (
                f"{self._here()}: the payload changed before the transfer, "
                f"{self._shape.unpack(held)} to {self._shape.unpack(payload)}"
            )
            if passes:
                held = None
                for receive in self.receivers:
                    receive(self._shape.unpack(payload), cycle())
            elif held is None:
                held = payload
            else:
                # A longer wait: sleeping until something changes spares the simulator a call each cycle.
                await First(RisingEdge(self._ready), FallingEdge(self._valid), ValueChange(self._payload))

    def _here(self) -> str:
        return f"stream {self.name} in cycle {cycle()}"
