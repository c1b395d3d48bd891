"""Firing one lane after the other: from finished sums to spike counts or membranes, packed into words."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import FIRE, FireKind

from . import layouts


class _Operand(enum.Enum, shape=2):
    """What the adder adds to v."""

    STATE = 0
    BIAS = 1
    START = 2
    SCALED = 3


class CompactFire(wiring.Component):
    """Fire a tile lane by lane with one adder, while the next sum accumulates.

    Works as `fire.Fire`, with the same search. A negative v is kept as it is: its complement loses theta * 2^k where v
    gains it, and may do so while v stays negative. Sums are buffered, so that the ring they come from is free again
    after a cycle a lane.

    Rate: a lane every 8 cycles with narrow counts, 13 with wide ones, 1 more where it emits a negative count, 1 more
    where there are negative thresholds; 11 with MEMBRANE, 9 with RAW. A cycle for each word, 3 between sums.
    Latency: 3 cycles from the first sum to the first lane.

    Members
    -------
    fire : ``In(descriptor(FIRE, configuration))``, constant while sums pass
    sums : ``In(stream.Signature(signed(membrane_bits)))``, a tile's sums from lane 0 on
    tag : ``In(stream.Signature(tag(configuration)))``, one for each tile's sums; taken when it is done with
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the parameter memory
    words : ``Out(stream.Signature(spike_write(configuration)))``
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "fire": In(layouts.descriptor(FIRE, configuration)),
                "sums": In(stream.Signature(signed(configuration.membrane_bits))),
                "tag": In(stream.Signature(layouts.tag(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "words": Out(stream.Signature(layouts.spike_write(configuration))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        configuration, fire, tag = self.configuration, self.fire, self.tag.p
        lanes, bits = configuration.lanes, configuration.membrane_bits
        membrane = signed(bits)
        spikes, raw = fire.kind == FireKind.SPIKE, fire.kind == FireKind.RAW

        # Parameters, and what there is of a lane: its finished sum, and what it keeps from one timestep to the next.
        # They are read while the last nibble of the lane before is packed, what is kept a cycle later by the same port.
        lane, lane_read = Signal(range(lanes)), Signal(range(lanes))
        reading, reading_kept, packing = Signal(), Signal(), Signal()
        channel = (tag.params + lane_read)[: len(tag.params)]
        pair = data.StructLayout({"theta": configuration.threshold_bits, "bias": membrane})
        state = data.StructLayout({"value": membrane, "emitted": layouts.EMITTED_BITS})
        m.submodules.weighing = weighing = memory.Memory(shape=pair, depth=configuration.param_depth, init=[])
        dual = configuration.negative_threshold
        initial: Any = membrane
        if dual:
            initial = data.StructLayout({"start": membrane, "theta_neg": unsigned(configuration.threshold_bits)})
        m.submodules.starting = starting = memory.Memory(shape=initial, depth=configuration.param_depth, init=[])
        m.submodules.states = states = memory.Memory(shape=state, depth=2 * lanes, init=[])
        write_pair, write_start, write_state = (each.write_port() for each in (weighing, starting, states))
        read_pair, read_start, read_state = (each.read_port() for each in (weighing, starting, states))
        params, before = read_pair.data, read_state.data
        start, write_start_data = (each.start if dual else each for each in (read_start.data, write_start.data))
        m.d.comb += [
            lane_read.eq(lane + packing),
            read_pair.addr.eq(channel),
            read_start.addr.eq(channel),
            read_state.addr.eq(Cat(lane_read, reading_kept)),
            read_pair.en.eq(reading),
            read_start.en.eq(reading),
            read_state.en.eq(reading | reading_kept),
            write_pair.addr.eq(self.write.address >> 1),
            write_pair.data.theta.eq(self.write.data[:32]),
            write_pair.data.bias.eq(self.write.data[32:].as_signed()),
            write_pair.en.eq(self.write_enable & ~self.write.address[0]),
            write_start.addr.eq(self.write.address >> 1),
            write_start_data.eq(self.write.data[:32].as_signed()),
            write_start.en.eq(self.write_enable & self.write.address[0]),
        ]
        if dual:
            m.d.comb += write_start.data.theta_neg.eq(self.write.data[32:])
        # Sums are written first: what is kept of the first lane is written when the last sum has come.
        place = Signal(range(lanes))
        collecting, keeping = Signal(), Signal()
        m.d.comb += [self.sums.ready.eq(collecting), write_state.en.eq((self.sums.valid & collecting) | keeping)]
        with m.If(collecting):
            m.d.comb += [write_state.addr.eq(place), write_state.data.value.eq(self.sums.p)]
        with m.If(self.sums.valid & collecting):
            m.d.sync += place.eq(place + 1)
            with m.If(place == lanes - 1):
                m.d.sync += collecting.eq(0)

        # One adder: v + operand, and 1 more where the inverted theta * 2^k is subtracted.
        v, operand, total = Signal(membrane), Signal(membrane), Signal(membrane)
        scaled = Signal(max(bits, configuration.threshold_bits + configuration.count_bits - 1))
        # What is added next is chosen a cycle ahead: the way through the adder is long enough.
        choice = Signal(_Operand)
        negative = Signal()
        subtracting = (choice == _Operand.SCALED) & ~negative
        m.d.comb += total.eq((Cat(subtracting, v) + Cat(subtracting, operand)) >> 1)
        with m.Switch(choice):
            with m.Case(_Operand.STATE):
                m.d.comb += operand.eq(before.value)
            with m.Case(_Operand.BIAS):
                m.d.comb += operand.eq(params.bias)
            with m.Case(_Operand.START):
                m.d.comb += operand.eq(start)
            with m.Case(_Operand.SCALED):
                m.d.comb += operand.eq(scaled)

        # The quotient, from its highest bit down. A negative neuron emits -1 - q, so its q must stay below its limit.
        quotient, bit = Signal(configuration.count_bits), Signal(configuration.count_bits)
        emitted, lo, limit = Signal(layouts.EMITTED_BITS), Signal(8), Signal(8)
        count = Signal(layouts.COUNT)
        fewest: Any = lo
        if dual:
            above = Signal()  # its negative threshold
            fewest = Mux(above, 0, lo)
        silent = fewest == 0
        m.d.comb += [
            emitted.eq(Mux(tag.first, 0, before.emitted)),
            limit.eq(Mux(negative, fewest, fire.n_pos)),
            count.eq(Mux(negative, Mux(silent, 0, ~quotient.as_signed()), quotient)),
        ]
        # Of the lane at hand from the search on.
        m.d.sync += lo.eq(Mux(fire.rectified & (emitted < fire.n_neg), emitted, fire.n_neg))
        fits = Cat(Const(0, 1), quotient | bit) < Cat(~negative, limit)
        overflow = (scaled[bits - 1 :] ^ (~negative).replicate(len(scaled) - bits + 1)).any()
        hit = fits & ~overflow & (total[-1] == negative)

        # Words: nibbles come in at the top, those of half a word for the lower half in the middle.
        word = Signal(WORD_BITS)
        nibble = Signal(3)
        newcomer = Signal(4)
        value = Cat(v, v[-1].replicate(32 - bits))
        parts = Array(value.word_select(at, 4) for at in range(8))
        shifted = Signal(WORD_BITS)
        m.d.comb += [
            newcomer.eq(Mux(spikes, Mux(nibble[0], count[4:8], count[:4]), parts[nibble])),
            shifted.eq(Cat(word[4:], newcomer)),
        ]
        with m.If(spikes & ~fire.wide & ~tag.upper):
            m.d.comb += shifted[28:32].eq(newcomer)
        last_nibble = nibble == Mux(spikes, fire.wide, 7)
        last_lane = lane == lanes - 1
        complete = Mux(spikes, last_lane, lane[0]) & (layouts.steadily(fire, configuration) | tag.last)
        m.d.comb += [
            self.words.p.address.eq(tag.output + Mux(spikes, 0, lane >> 1)),
            self.words.p.data.eq(word),
            self.words.p.mask.eq(Mux(spikes & ~fire.wide, Cat(~tag.upper, tag.upper), 0b11)),
            write_state.data.emitted.eq(emitted + count),
        ]
        with m.If(~collecting):
            m.d.comb += [write_state.addr.eq(Cat(lane, 1)), write_state.data.value.eq(v)]

        going_on = Signal()  # to the next lane
        with m.If(going_on):
            m.d.sync += lane.eq(lane + 1)
            m.d.comb += self.tag.ready.eq(last_lane)
        with m.FSM():
            with m.State("WAIT"):
                with m.If(self.tag.valid & self.sums.valid):
                    m.d.sync += [v.eq(0), collecting.eq(1)]
                    m.next = "COLLECT"
            with m.State("COLLECT"):
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += reading.eq(1)
                m.d.sync += choice.eq(_Operand.STATE)
                m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += reading_kept.eq(1)
                m.d.sync += [v.eq(total), nibble.eq(0), choice.eq(_Operand.BIAS)]
                m.next = "BIAS"
                with m.If(raw):
                    m.next = "PACK"
            with m.State("BIAS"):
                m.d.sync += [v.eq(total), choice.eq(Mux(tag.first, _Operand.START, _Operand.STATE))]
                m.next = "CARRY"
            with m.State("CARRY"):
                highest = configuration.count_bits - 1
                m.d.sync += [
                    v.eq(total),
                    choice.eq(_Operand.SCALED),
                    negative.eq(total[-1]),
                    scaled.eq(
                        Mux(fire.wide, params.theta << highest, params.theta << 3) ^ (~total[-1]).replicate(len(scaled))
                    ),
                    quotient.eq(0),
                    bit.eq(Mux(fire.wide, 1 << highest, 1 << 3)),
                ]
                m.next = "COMPARE" if dual else "SEARCH"
                with m.If(~spikes):
                    m.next = "PACK"
            if dual:
                with m.State("COMPARE"):
                    m.d.sync += above.eq(negative & (~v < read_start.data.theta_neg))
                    m.next = "SEARCH"
            with m.State("SEARCH"):
                m.d.sync += bit.eq(bit >> 1)
                with m.If(hit):
                    m.d.sync += [v.eq(total), quotient.eq(quotient | bit)]
                with m.If(bit[0]):
                    m.next = "PACK"
                    with m.If(negative & ~silent):
                        m.next = "RESET"
                with m.Else():
                    m.d.sync += scaled.eq(Cat(scaled[1:], ~negative))
            with m.State("RESET"):
                m.d.sync += v.eq(total)
                m.next = "PACK"
            with m.State("PACK"):
                m.d.comb += packing.eq(1)
                m.d.sync += choice.eq(_Operand.STATE)
                with m.If(~(last_nibble & collecting)):
                    m.d.sync += [word.eq(shifted), nibble.eq(nibble + 1)]
                with m.If(last_nibble & ~collecting):
                    m.d.comb += [reading.eq(1), keeping.eq(1)]
                    m.d.sync += v.eq(0)
                    with m.If(complete):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += going_on.eq(1)
                        m.next = "SUM"
                        with m.If(last_lane):
                            m.next = "WAIT"
            with m.State("WRITE"):
                m.d.comb += self.words.valid.eq(1)
                with m.If(self.words.ready):
                    m.d.comb += going_on.eq(1)
                    m.next = "SUM"
                    with m.If(last_lane):
                        m.next = "WAIT"
        return m
