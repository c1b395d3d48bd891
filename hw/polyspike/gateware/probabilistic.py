"""Random firing: from the membranes in which all timesteps are added up to the spikes of each timestep."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import FireKind
from polyspike.spec.lfsr import DRAW_BITS, WIDTH

from . import layouts
from .jump import Jump, step

#: Bits of a number that are used in a cycle.
_AT_ONCE = 2

#: Positions whose sums are on their way here.
_POSITIONS = 4

#: Bits of a number of timesteps.
_TIME_BITS = 8


class Probabilistic(wiring.Component):
    """Behind a fire unit: what it writes passes, but membranes of a PROBABILISTIC layer are kept and fired at random.

    A neuron fires where v * 2^16 > r * theta * m with m timesteps left. Because v is whole, that is v > (r * theta * m)
    >> 16, and the shifted product comes bit by bit, the lowest one of r first, just as the register gives them out.
    While it does for one lane, theta * m is worked out for the next one. In the meantime the state jumps ahead to
    the next timestep.

    Rate: with L lanes, a position in L + 34 cycles, and (L + 1) * 9 + 3 more for each timestep. Latency: none to what
    passes.

    Members
    -------
    layer : ``In(layer(configuration))``, constant while not `idle`
    position : ``In(stream.Signature(position(configuration)))``, one for each position of a PROBABILISTIC layer, ahead
        of its membranes
    i : ``In(stream.Signature(spike_write(configuration)))``, from the fire unit
    o : ``Out(stream.Signature(spike_write(configuration)))``
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the parameter memory
    idle : ``Out(1)``, high when no membrane is kept
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        words = stream.Signature(layouts.spike_write(configuration))
        super().__init__(
            {
                "layer": In(layouts.layer(configuration)),
                "position": In(stream.Signature(layouts.position(configuration))),
                "i": In(words),
                "o": Out(words),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        configuration, layer = self.configuration, self.layer
        lanes, bits, depth = configuration.lanes, configuration.membrane_bits, configuration.param_depth
        taps = layer.random.taps

        queue = fifo.SyncFIFOBuffered(width=layouts.position(configuration).size, depth=_POSITIONS)
        m.submodules.queue = queue
        position = data.View(layouts.position(configuration), queue.r_data)
        m.d.comb += [
            queue.w_data.eq(self.position.p),
            queue.w_en.eq(self.position.valid),
            self.position.ready.eq(queue.w_rdy),
        ]

        # Thresholds, and the jump to each tile's first channel.
        m.submodules.thresholds = thresholds = memory.Memory(shape=configuration.threshold_bits, depth=depth, init=[])
        m.submodules.jumps = jumps = memory.Memory(shape=WIDTH, depth=depth // lanes, init=[])
        write_theta, write_jump, read_theta, read_jump = (
            thresholds.write_port(),
            jumps.write_port(),
            thresholds.read_port(),
            jumps.read_port(),
        )
        channel, part, lane_bits = self.write.address >> 1, self.write.address[0], lanes.bit_length() - 1
        m.d.comb += [
            write_theta.addr.eq(channel),
            write_theta.data.eq(self.write.data[:32]),
            write_theta.en.eq(self.write_enable & ~part),
            write_jump.addr.eq(channel >> lane_bits),
            write_jump.data.eq(self.write.data[32:]),
            write_jump.en.eq(self.write_enable & part & (channel[:lane_bits] == 0)),
        ]

        # Membranes. Slot s is that of lane s for theta * m, of the lane before for its number and what follows.
        m.submodules.membranes = membranes = memory.Memory(shape=signed(bits), depth=lanes, init=[])
        write_v, read_v = membranes.write_port(), membranes.read_port()
        slot, beat = Signal(range(lanes + 2)), Signal(range(DRAW_BITS // _AT_ONCE + 1))
        assert DRAW_BITS // _AT_ONCE == _TIME_BITS
        left = Signal(_TIME_BITS)  # timesteps, the present one included
        product_bits = configuration.threshold_bits + _TIME_BITS
        growing, limit, share = Signal(product_bits), Signal(product_bits), Signal(product_bits)
        theta = Signal(configuration.threshold_bits)
        m.d.comb += [
            read_theta.addr.eq(position.params + slot),
            read_jump.addr.eq(position.params >> lane_bits),
            read_v.addr.eq(slot - 1),
        ]

        # The state before the first draw of this timestep's tile, and the one before the draw at hand.
        start, state = Signal(WIDTH), Signal(WIDTH)
        m.submodules.jump = jump = Jump()
        at_tile = Signal()  # jumps within a position lead to a timestep, the one before to the tile
        m.d.comb += [
            jump.taps.eq(taps),
            jump.state.eq(Mux(at_tile, start, position.random)),
            jump.jump.eq(Mux(at_tile, layer.random.timestep, read_jump.data)),
        ]

        address = Signal(layouts.address_bits(configuration))
        word = Signal(WORD_BITS)
        half = lanes * 4 < WORD_BITS
        fires = Signal()
        place = Signal(range(lanes))  # of the next membrane that comes
        kept = layer.fire.kind == FireKind.PROBABILISTIC
        m.d.comb += fires.eq(share < read_v.data)
        with m.FSM() as states:
            with m.State("COLLECT"):
                m.d.comb += [
                    self.o.p.eq(self.i.p),
                    self.o.valid.eq(self.i.valid & ~kept),
                    # Two membranes a word, one after the other.
                    self.i.ready.eq(Mux(kept, place[0] & queue.r_rdy, self.o.ready)),
                    write_v.addr.eq(place),
                    write_v.data.eq(self.i.p.data.word_select(place[0], 32)[:bits].as_signed()),
                    write_v.en.eq(self.i.valid & kept & queue.r_rdy),
                ]
                with m.If(write_v.en):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == 0):
                        m.d.sync += address.eq(self.i.p.address)
                    with m.If(place == lanes - 1):
                        m.next = "TILE"
            with m.State("TILE"):
                m.d.comb += jump.start.eq(1)
                m.d.sync += [at_tile.eq(0), left.eq(layer.extent.timesteps)]
                m.next = "JUMP"
            with m.State("JUMP"):
                with m.If(~jump.busy):
                    m.next = "TIMESTEP"
            with m.State("TIMESTEP"):
                m.d.comb += jump.start.eq(1)
                m.d.sync += [at_tile.eq(1), start.eq(jump.result), state.eq(jump.result), slot.eq(0), beat.eq(0)]
                m.next = "DRAW"
            with m.State("DRAW"):
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == 0):
                    # A lane is done with, the others move up.
                    m.d.sync += [growing.eq(0), limit.eq(growing), share.eq(0), theta.eq(read_theta.data)]
                    m.d.comb += [
                        write_v.addr.eq(slot - 2),
                        write_v.data.eq(read_v.data - theta),
                        write_v.en.eq((slot >= 2) & fires),
                    ]
                    m.d.sync += word.eq(Cat(word[4:], fires, 0, 0, 0))
                    with m.If(slot == lanes + 1):
                        m.next = "WRITE"
                with m.Else():
                    m.d.sync += growing.eq(
                        (growing << 1) + Mux(Cat(0, left[::-1]).bit_select(beat, 1), read_theta.data, 0)
                    )
                    total, following = share, state
                    for place_value in range(_AT_ONCE):
                        total = total + (Mux(following[0], limit, 0) << place_value)
                        following = step(following, taps)
                    m.d.sync += share.eq(total >> _AT_ONCE)
                    with m.If(slot > 0):
                        m.d.sync += state.eq(following)
                with m.If(beat == DRAW_BITS // _AT_ONCE):
                    m.d.sync += [beat.eq(0), slot.eq(slot + 1)]
            with m.State("WRITE"):
                upper = position.upper
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.address.eq(address),
                    self.o.p.data.eq(word[32:].replicate(2) if half else word),
                    self.o.p.mask.eq(Mux(upper, 0b10, 0b01) if half else 0b11),
                ]
                with m.If(self.o.ready):
                    m.d.sync += [left.eq(left - 1), address.eq(address + layer.output.time_pitch)]
                    m.next = "TIMESTEP"
                    with m.If(left == 1):
                        m.d.comb += queue.r_en.eq(1)
                        m.next = "COLLECT"
        m.d.comb += self.idle.eq(states.ongoing("COLLECT") & (place == 0))
        return m


def attach(m: Module, column: Any, layer: Any, words: Any, tag: Any, random: Any) -> tuple[Probabilistic, Any]:
    """Put a unit behind a column's fire unit, and return it and the tags that the column is to go on with.

    `words` are those of the fire unit; of the first of a position among the tags `tag` the unit is told, with its state
    `random`. `column` has the ports for writes of parameters.
    """
    m.submodules.probabilistic = unit = Probabilistic(column.configuration)
    wiring.connect(m, layer, unit.layer)
    wiring.connect(m, words, unit.i)
    m.d.comb += [unit.write.eq(column.write), unit.write_enable.eq(column.write_params)]
    told = tag.signature.create(path=("told",))
    first = tag.p.first & (unit.layer.fire.kind == FireKind.PROBABILISTIC)
    m.d.comb += [
        told.p.eq(tag.p),
        told.valid.eq(tag.valid & unit.position.ready),
        tag.ready.eq(told.ready & unit.position.ready),
        unit.position.valid.eq(tag.valid & told.ready & first),
        unit.position.p.params.eq(tag.p.params),
        unit.position.p.upper.eq(tag.p.upper),
        unit.position.p.random.eq(random),
    ]
    return unit, told
