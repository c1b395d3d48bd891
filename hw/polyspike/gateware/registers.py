"""The registers, `Space.REGISTERS`: identity, counters and settings."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.registers import BY_NAME, COUNTERS, MAGIC, REGISTERS

from . import unpacker

#: Bits of a register that are worked on at once.
LIMB_BITS = 16
#: Limbs of a register.
LIMBS = WORD_BITS // LIMB_BITS

#: An access of the host to a register; `data` means nothing in a read.
ACCESS = data.StructLayout({"write": 1, "address": ADDRESS_BITS, "data": WORD_BITS})


class Registers(wiring.Component):
    """All registers in one memory, and one adder that walks over it.

    Each counter has a few bits of its own, which count what happens during a round. In every round the adder moves them
    into the counter's 64 bits in the memory, 16 bits a cycle. The host's accesses are served as the round comes by. So
    a counter costs little more than these few bits, and no wide multiplexer is needed to read it.

    Rate: a round takes four cycles for each register, rounded up to a power of two of registers. An access takes two
    rounds at most. A counter read has all steps up to a few cycles before the access began. COUNTERS_CLEAR is for when
    nothing counts: counters are cleared one after the other.

    Members
    -------
    steps : ``In(ArrayLayout(unsigned(n), len(COUNTERS)))``, how much each counter goes up, at most by `columns`
    access : ``In(stream.Signature(ACCESS))``, taken when it is done
    limb : ``Out(16)``, with `limb_valid`: a read's value, lowest limb first; the last one comes as the access is taken
    divisor : ``Out(16)``, register UART_DIVISOR
    layout : ``Out(unpacker.LAYOUT)``, register INPUT_LAYOUT; constant where there is no unpacker
    """

    def __init__(self, configuration: Configuration, clock_hz: int = 0) -> None:
        self.configuration, self.clock_hz = configuration, clock_hz
        super().__init__(
            {
                "steps": In(data.ArrayLayout(bits_for(configuration.columns), len(COUNTERS))),
                "access": In(stream.Signature(ACCESS)),
                "limb": Out(LIMB_BITS),
                "limb_valid": Out(1),
                "divisor": Out(16),
                "layout": Out(unpacker.LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        constants = {"MAGIC": MAGIC, "DIGEST": int(self.configuration.digest, 16), "CLOCK_HZ": self.clock_hz}
        count = 1 << bits_for(len(REGISTERS) - 1)
        values = [0] * count
        for name, value in constants.items():
            values[BY_NAME[name].address] = value
        m.submodules.memory = kept = memory.Memory(
            shape=LIMB_BITS,
            depth=count * LIMBS,
            init=[value >> LIMB_BITS * limb & (1 << LIMB_BITS) - 1 for value in values for limb in range(LIMBS)],
        )
        write, read = kept.write_port(), kept.read_port()
        place = data.StructLayout({"limb": bits_for(LIMBS - 1), "register": bits_for(count - 1)})

        # Three stages, a cycle apart: a limb is read, taken over, and added to.
        read_place = Signal(place)
        # Behind it from the start, so that no stage has a place in the first round that it was not given.
        old_place, sum_place = (
            Signal(place, init={"limb": LIMBS - behind, "register": count - 1}, name=f"{name}_place")
            for name, behind in (("old", 1), ("sum", 2))
        )
        old, more, carry = Signal(LIMB_BITS), Signal(LIMB_BITS), Signal()
        clearing = Signal()
        m.d.comb += [read.addr.eq(read_place), write.addr.eq(sum_place), write.data.eq(self.limb)]
        m.d.sync += [
            read_place.eq(read_place.as_value() + 1),
            old_place.eq(read_place),
            sum_place.eq(old_place),
            old.eq(read.data),
            more.eq(0),
        ]
        with m.Switch(old_place.as_value()):
            for (register, limb), value in self._additions(m, old_place).items():
                with m.Case(BY_NAME[register].address * LIMBS + limb):
                    m.d.sync += more.eq(value)
        with m.If(clearing):
            m.d.sync += [old.eq(0), more.eq(0)]

        # Only a counter's higher limbs get a carry, and to them nothing else is added.
        above = Signal()
        m.d.comb += [
            Cat(self.limb, above).eq(old + Cat(more[0] | carry, more[1:])),
            write.en.eq((sum_place.register >= COUNTERS[0].address) & (sum_place.register <= COUNTERS[-1].address)),
        ]
        m.d.sync += carry.eq(above)

        access = self.access
        address = access.p.address[: len(sum_place.register)]
        clears = access.valid & access.p.write & (address == BY_NAME["COUNTERS_CLEAR"].address)
        under_way = Signal()
        last = sum_place.limb == LIMBS - 1
        m.d.comb += self.limb_valid.eq(
            access.valid & ~access.p.write & (address == sum_place.register) & (under_way | (sum_place.limb == 0))
        )
        m.d.sync += under_way.eq(self.limb_valid & ~last)
        with m.If(clears):
            # For one round, from one place on up to the same place again.
            with m.If(old_place.as_value() == 0):
                m.d.sync += clearing.eq(~clearing)
                m.d.comb += access.ready.eq(clearing)
        with m.Else():
            m.d.comb += access.ready.eq(access.p.write | (self.limb_valid & last))
        for name, setting in self._settings().items():
            with m.If(access.valid & access.p.write & (address == BY_NAME[name].address)):
                m.d.sync += setting.eq(access.p.data)
        return m

    def _settings(self) -> dict[str, Any]:
        """Return what the host sets, by register."""
        settings = {"UART_DIVISOR": self.divisor}
        if self.configuration.unpacker:
            settings["INPUT_LAYOUT"] = self.layout.as_value()
        return settings

    def _additions(self, m: Module, place: Any) -> dict[tuple[str, int], Any]:
        """Count steps, and return what is to be added to which limbs of which registers when it is their turn."""
        additions: dict[tuple[str, int], Any] = {}
        for register, step in zip(COUNTERS, self.steps, strict=True):
            steps = Signal(
                range((self.configuration.columns << len(place.as_value())) + 1), name=f"{register.name}_steps"
            )
            moved = place.as_value() == register.address * LIMBS
            m.d.sync += steps.eq(Mux(moved, 0, steps) + step)
            additions[register.name, 0] = steps
        # Settings are kept where they are used; what the memory has in their place is 0.
        for name, setting in self._settings().items():
            for limb in range(0, len(setting), LIMB_BITS):
                additions[name, limb // LIMB_BITS] = setting[limb : limb + LIMB_BITS]
        return additions
