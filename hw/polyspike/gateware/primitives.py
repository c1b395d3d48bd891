"""Blocks of an FPGA that synthesis does not use well by itself, each beside a generic version that does the same.

The platform that a design is elaborated for says which one is taken; without a platform it is the generic one. The
instantiated ones are checked against the generic ones in tests/gateware/test_primitives.py.
"""

from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


def family(platform: Any) -> str:
    """Return the family of FPGAs that a platform is of: "ecp5", "ice40", "gowin", or "" for any other and for none."""
    device = str(getattr(platform, "device", "")).lower()
    for prefix, name in (("lfe5", "ecp5"), ("ice40", "ice40"), ("gw", "gowin")):
        if device.startswith(prefix):
            return name
    return ""


#: Attributes of a memory that is read by `read_unchecked`: Yosys goes by them where it makes memory and register one.
UNCHECKED = {"no_rw_check": 1}


def read_unchecked(m: Module, bank: memory.Memory, enable: Any, address: Any) -> Signal:
    """Return the row of an enabled cycle's address, from the next cycle on.

    Nothing may be done with a row that is read while it is written. So synthesis need not keep what was there before,
    which takes it a register and a look-up table for each bit of a block RAM.
    """
    port = bank.read_port(domain="comb")
    row = Signal.like(port.data, name="row")
    m.d.comb += port.addr.eq(address)
    with m.If(enable):
        m.d.sync += row.eq(port.data)
    return row


class Multiplier(wiring.Component):
    """A signed multiplier with registers before, inside and behind it.

    Rate: a product each enabled cycle. Latency: 3 enabled cycles (`LATENCY`).

    Members
    -------
    enable : ``In(1)``, moves the pipeline
    a : ``In(signed(a_bits))``; b : ``In(signed(b_bits))``
    p : ``Out(signed(a_bits + b_bits))``, the product

    Parameters
    ----------
    a_bits, b_bits
        Bits of the factors, at most 18.
    fabric
        Make it of look-up tables, where a device has more of those than of multipliers: 16 bits by 8.
    """

    #: Enabled cycles from the factors to their product.
    LATENCY = 3

    def __init__(self, a_bits: int = 16, b_bits: int = 8, *, fabric: bool = False) -> None:
        assert max(a_bits, b_bits) <= 18 and (not fabric or (a_bits, b_bits) == (16, 8))
        self.a_bits, self.b_bits, self.fabric = a_bits, b_bits, fabric
        super().__init__(
            {
                "enable": In(1),
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "p": Out(signed(a_bits + b_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        if family(platform) == "ecp5" and not self.fabric:
            m.submodules.multiplier = self._mult18x18d()
            return m
        a, b = Signal(signed(self.a_bits)), Signal(signed(self.b_bits))
        with m.If(self.enable):
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
        if self.fabric:
            # Half of b's bits in each sum; synthesis would take a multiplier block for `*`.
            halves = [Signal(signed(21), name=f"half{half}") for half in range(2)]
            terms = [Mux(b[bit], a, 0) for bit in range(8)]
            with m.If(self.enable):
                m.d.sync += [
                    halves[0].eq((terms[0] + (terms[1] << 1)) + ((terms[2] << 2) + (terms[3] << 3))),
                    halves[1].eq((terms[4] + (terms[5] << 1)) + ((terms[6] << 2) - (terms[7] << 3))),
                    self.p.eq(halves[0] + (halves[1] << 4)),
                ]
        else:
            inside = Signal(signed(self.a_bits + self.b_bits))
            with m.If(self.enable):
                m.d.sync += [inside.eq(a * b), self.p.eq(inside)]
        return m

    def _mult18x18d(self) -> Instance:
        """Return a MULT18X18D of the ECP5 with all of its registers, clocked by CLK0 and enabled by CE0."""
        arguments: dict[str, Any] = {}
        for register in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT"):
            arguments[f"p_REG_{register}_CLK"] = "CLK0"
            arguments[f"p_REG_{register}_CE"] = "CE0"
            arguments[f"p_REG_{register}_RST"] = "RST0"
        for number in range(4):
            arguments[f"i_CLK{number}"] = ClockSignal() if number == 0 else Const(0)
            arguments[f"i_CE{number}"] = self.enable if number == 0 else Const(1)
            arguments[f"i_RST{number}"] = Const(0)
        for name, factor in (("A", self.a), ("B", self.b)):
            arguments[f"i_SIGNED{name}"] = Const(1)
            arguments[f"i_SOURCE{name}"] = Const(0)
            for bit in range(18):
                arguments[f"i_{name}{bit}"] = factor[min(bit, len(factor) - 1)]
        for bit in range(len(self.p)):
            arguments[f"o_P{bit}"] = self.p[bit]
        # The products are read after initialization, which the host does: the global reset is not needed.
        return Instance("MULT18X18D", p_GSR="DISABLED", p_RESETMODE="SYNC", **arguments)
