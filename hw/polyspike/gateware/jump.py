"""The register of random numbers: its step, and jumps over many of them. See `polyspike.spec.lfsr`."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec.lfsr import WIDTH


def step(state: Value, taps: Value) -> Value:
    """Return the state after a step; what the step gives out is the lowest bit of `state`."""
    return state[1:] ^ Mux(state[0], taps, 0)


class Jump(wiring.Component):
    """Find the state after a jump, a bit of the jump a cycle.

    Rate: a jump in 33 cycles. Latency: 33 cycles from `start` to `result`, which stays until the next `start`.

    Members
    -------
    start : ``In(1)``, begin; what was begun before is forgotten
    taps, state, jump : ``In(32)``, constant from the cycle after `start` on while `busy`
    busy : ``Out(1)``, high from the cycle after `start` until `result` is there
    result : ``Out(32)``
    """

    def __init__(self) -> None:
        values = {name: In(WIDTH) for name in ("taps", "state", "jump")}
        super().__init__({**values, "start": In(1), "busy": Out(1), "result": Out(WIDTH)})

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        bit = Signal(range(WIDTH))
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), bit.eq(0), self.result.eq(0)]
        with m.Elif(self.busy):
            chosen = Mux(self.jump.bit_select(bit, 1), self.state, 0)
            m.d.sync += [self.result.eq(step(self.result, self.taps) ^ chosen), bit.eq(bit + 1)]
            with m.If(bit == WIDTH - 1):
                m.d.sync += self.busy.eq(0)
        return m
