"""Blocks of small devices: a multiplier that adds up, and a memory of rows, each for the family it is built for.

The platform that a design is elaborated for says which form is taken; without a platform it is the generic one, which
the others are checked against in tests/gateware/test_accumulator.py.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .primitives import family


class Accumulator(wiring.Component):
    """Multiply and add, or load: a lane's sum.

    Rate: an addition each enabled cycle. Latency: 1 cycle.

    Members
    -------
    enable : ``In(1)``, change the sum: otherwise it stays
    load : ``In(1)``, take `value` instead of adding a product
    a : ``In(signed(16))``; b : ``In(signed(8))``, the factors
    value : ``In(signed(width))``
    total : ``Out(signed(width))``, the sum
    """

    def __init__(self, width: int) -> None:
        assert width <= 32
        self.width = width
        super().__init__(
            {
                "enable": In(1),
                "load": In(1),
                "a": In(signed(16)),
                "b": In(signed(8)),
                "value": In(signed(width)),
                "total": Out(signed(width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        if family(platform) == "ice40":
            m.submodules.mac = self._mac16()
            return m
        with m.If(self.enable):
            m.d.sync += self.total.eq(Mux(self.load, self.value, self.total + self.a * self.b))
        return m

    def _mac16(self) -> Instance:
        """Return an SB_MAC16 of the iCE40: a signed 16 x 16 bit product, added up in its two output registers."""
        value = Cat(self.value, Const(0, 32 - self.width))
        arguments: dict[str, Any] = {}
        for half, load in (("TOP", value[16:]), ("BOT", value[:16])):
            arguments |= {
                f"p_{half}OUTPUT_SELECT": Const(1, 2),  # the register
                f"p_{half}ADDSUB_LOWERINPUT": Const(2, 2),  # the product
                f"p_{half}ADDSUB_UPPERINPUT": Const(0, 1),  # the register
                f"p_{half}ADDSUB_CARRYSELECT": Const(3 if half == "TOP" else 0, 2),  # top: the carry of bottom
                f"i_OLOAD{half}": self.load,
                f"i_OHOLD{half}": Const(0),
                f"i_ORST{half}": Const(0),
                f"i_IRST{half}": Const(0),
                f"i_ADDSUB{half}": Const(0),
                f"i_{'C' if half == 'TOP' else 'D'}": load,
            }
        for hold in "ABCD":
            arguments[f"i_{hold}HOLD"] = Const(0)
        return Instance(
            "SB_MAC16",
            p_A_SIGNED=Const(1, 1),
            p_B_SIGNED=Const(1, 1),
            i_CLK=ClockSignal(),
            i_CE=self.enable,
            i_A=self.a,
            i_B=Cat(self.b, self.b[-1].replicate(8)),
            i_CI=Const(0),
            i_ACCUMCI=Const(0),
            i_SIGNEXTIN=Const(0),
            o_O=Cat(self.total, Signal(32 - self.width)),
            **arguments,
        )


class RowMemory(wiring.Component):
    """A memory with one port: rows of 64 bits that are written now and then, and read otherwise.

    Rate: one access a cycle. Latency: 1 cycle from an `address` to its `data`, which stays as long as `enable` is low.

    Members
    -------
    enable : ``In(1)``, read or write
    write : ``In(1)``, write `word` at `address`; `data` is undefined then
    address : ``In(...)``
    word : ``In(64)``
    data : ``Out(64)``
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__(
            {
                "enable": In(1),
                "write": In(1),
                "address": In(range(depth)),
                "word": In(64),
                "data": Out(64),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        if family(platform) == "ice40":
            assert self.depth <= 1 << 14
            for part in range(4):
                m.submodules[f"part{part}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(),
                    i_ADDRESS=Cat(self.address, Const(0, 14 - len(self.address))),
                    i_DATAIN=self.word[16 * part : 16 * part + 16],
                    i_MASKWREN=Const(0b1111, 4),
                    i_WREN=self.write,
                    i_CHIPSELECT=self.enable,
                    i_STANDBY=Const(0),
                    i_SLEEP=Const(0),
                    i_POWEROFF=Const(1),
                    o_DATAOUT=self.data[16 * part : 16 * part + 16],
                )
            return m
        m.submodules.rows = rows = memory.Memory(shape=64, depth=self.depth, init=[])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.en.eq(self.enable & self.write),
            write.addr.eq(self.address),
            write.data.eq(self.word),
            read.en.eq(self.enable & ~self.write),
            read.addr.eq(self.address),
            self.data.eq(read.data),
        ]
        return m
