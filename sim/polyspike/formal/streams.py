"""The rules of streams: what is offered stays as it is until it is taken, and `valid` does not wait for `ready`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from amaranth.asserts import AnyConst
from amaranth.hdl import Value
from amaranth.lib import stream
from amaranth.lib.wiring import In

from .properties import Inside, Properties

#: Makes assertions about the inside of a block, without which its rules do not follow from cycle to cycle.
Helper = Callable[[Properties, Any, Inside], None]


def _kept(p: Properties, port: Any) -> tuple[Any, Any]:
    """Return the two rules of a stream: that an offer stays, and that it stays the same."""
    payload = Value.cast(port.payload)
    waiting = p.past(port.valid & ~port.ready)
    return ~waiting | port.valid, ~waiting | (payload == p.past(payload))


def assume_rules(p: Properties, port: Any) -> None:
    """Look only at neighbours that keep the rules of a stream."""
    for rule in _kept(p, port):
        p.assume(rule)


def assert_rules(p: Properties, port: Any, name: str) -> None:
    """State that a stream keeps its rules."""
    valid, payload = _kept(p, port)
    p.always(f"{name}_valid_holds", valid)
    p.always(f"{name}_payload_holds", payload)
    p.independent(f"{name}_valid_waits_for_no_ready", port.valid, port.ready)
    p.reach(f"{name}_is_taken", port.valid & port.ready)


def ports(block: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield name, stream, and whether it is an input, of each stream of a block."""
    for name, member in block.signature.members.items():
        if member.is_signature and isinstance(member.signature, stream.Signature):
            yield name, getattr(block, name), member.flow == In


def hold(p: Properties, block: Any, names: Iterable[str]) -> list[Any]:
    """Give inputs of a block (or all inputs below a name) any value that stays; return their signals."""
    wanted, held = set(names), []
    for path, member, signal in block.signature.flatten(block):
        if path[0] in wanted and member.flow == In:
            value = Value.cast(signal)
            p.m.d.comb += value.eq(AnyConst(len(value)))
            held.append(signal)
    return held


def stream_rules(
    make: Callable[[], Any], *, constant: Iterable[str] = (), helper: Helper | None = None
) -> Callable[[], Properties]:
    """Return what makes the properties that all of a block's output streams keep the rules if its input streams do.

    Parameters
    ----------
    make
        Makes the block.
    constant
        Inputs that keep their value, by the block's contract.
    helper
        Adds assertions about the block's inside, and assumptions from its contract.
    """

    def build() -> Properties:
        p = Properties()
        block = make()
        inside = p.block(block, given=hold(p, block, constant))
        for name, port, is_input in ports(block):
            if is_input:
                assume_rules(p, port)
            else:
                assert_rules(p, port, name)
        if helper is not None:
            helper(p, block, inside)
        return p

    return build
