"""Writing properties of a block down: free inputs, assumptions, assertions, covers, and a look inside."""

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, ClockDomain, Const, Cover, Elaboratable, Fragment, Module, Shape, Signal, Value
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2


class _Check(Elaboratable):
    """One statement in a module of its own, after which provers call it."""

    def __init__(self, statement: Any) -> None:
        self.statement = statement

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.statement
        return m


class Inside:
    """What there is inside a block, by the names that its source gives.

    Those are the variables of `elaborate`, in the block and in its parts: Amaranth itself cannot name all signals, and
    a block is not to have attributes just for its proof.

    Parameters
    ----------
    block
        The Amaranth component.
    """

    def __init__(self, block: Any) -> None:
        self._block = block
        self._variables: dict[int, dict[str, Any]] = {}

        def on_return(frame: FrameType, event: str, _: object) -> None:
            if event == "return" and frame.f_code.co_name == "elaborate" and "self" in frame.f_locals:
                self._variables.setdefault(id(frame.f_locals["self"]), dict(frame.f_locals))

        before = sys.getprofile()
        sys.setprofile(on_return)
        try:
            self.fragment = Fragment.get(block, None)
        finally:
            sys.setprofile(before)

    def __getitem__(self, path: str) -> Any:
        """Return what a variable of `elaborate` holds: `"count"` of the block, `"queue.produce"` of its part `queue`.

        Raises
        ------
        KeyError
            There is none of that name.
        """
        found = self._block
        for name in path.split("."):
            found = self._variables[id(found)][name]
        return found

    def state(self, name: str) -> Any:
        """Return whether the block's state machine is in a state."""
        fsm = self.fragment.find_generated("fsm")
        return fsm.state == fsm.encoding[name]

    def row(self, memory: str, address: Any) -> Signal:
        """Return what a memory holds at an address, read by a port that only the proof has."""
        instance = self[f"{memory}.instance"]
        row = Signal(Shape.cast(instance._data.shape))
        place = Signal(ceil_log2(instance._data.depth))
        instance.read_port(domain="comb", addr=place, data=row, en=Const(1), transparent_for=())
        self.fragment.add_statements("comb", place.eq(address))
        return row


class Properties(Elaboratable):
    """A module around the blocks that it states properties of. Everything is in one clock domain without a reset.

    Attributes
    ----------
    m : the module, for what a property needs to remember
    clk : its clock
    independence : by name, a signal and another one which it must not depend on within a cycle
    """

    def __init__(self) -> None:
        self.m = Module()
        self.m.domains.sync = domain = ClockDomain(reset_less=True)
        self.clk = domain.clk
        self.independence: dict[str, tuple[Any, Any]] = {}
        self._names: dict[str, int] = {}

    def elaborate(self, platform: object) -> Module:
        """Return the module."""
        return self.m

    def block(self, block: Any, *, name: str = "block", given: Iterable[Any] = ()) -> Inside:
        """Put a component into the module. Its inputs, but those in `given`, take any value in any cycle."""
        mine = {id(Value.cast(each)) for each in given}
        for _, member, signal in block.signature.flatten(block):
            value = Value.cast(signal)
            if member.flow == In and id(value) not in mine:
                self.m.d.comb += value.eq(AnySeq(len(value)))
        inside = Inside(block)
        self.m.submodules[name] = inside.fragment
        return inside

    def _check(self, name: str, statement: Any) -> None:
        number = self._names[name] = self._names.get(name, 0) + 1
        self.m.submodules[name if number == 1 else f"{name}_{number}"] = _Check(statement)

    def assume(self, condition: Any) -> None:
        """Look only at what keeps a condition in every cycle."""
        self._check("assume", Assume(condition))

    def always(self, name: str, condition: Any) -> None:
        """State that a condition holds in every cycle. The name is reported where it does not."""
        self._check(name, Assert(condition))

    def reach(self, name: str, condition: Any) -> None:
        """State that a condition can be met: what is assumed excludes not everything."""
        self._check(name, Cover(condition))

    def independent(self, name: str, signal: Any, of: Any) -> None:
        """State that no path without a register leads to a signal from another one."""
        self.independence[name] = (signal, of)

    def past(self, value: Any) -> Signal:
        """Return what a value was in the cycle before; in the first cycle 0."""
        held = Signal(Value.cast(value).shape(), name="past")
        self.m.d.sync += held.eq(Value.cast(value))
        return held
