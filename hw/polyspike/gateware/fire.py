"""Firing: from finished sums to spike counts or membranes, packed into words."""

import functools
import operator
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import FIRE, FireKind

from . import layouts
from .primitives import UNCHECKED, read_unchecked

#: Words that wait for the spike memory.
_WORDS = 8

#: Groups of lanes whose sums are selected from together, where there are pairs.
_NEIGHBOURS = 4

#: Bits of block RAM that are written together, on the devices that this column is for.
_BYTE = 9


class Threshold(wiring.Component):
    """A pipeline that finds clip(floor(v / theta), -lo, n_pos) and the membrane after its reset, without a divider.

    A negative v is searched as its complement ~v = -v - 1, because floor(v / theta) = -1 - floor(~v / theta); so one
    unsigned search from the highest bit down serves both signs: bit k is taken when the quotient stays within its limit
    and the rest is at least theta * 2^k. What remains, r, gives the new membrane: r for v >= 0, else theta - 1 - r.

    With `negative_threshold`, -lo is 0 as long as v >= -theta_neg, which is to say ~v < theta_neg.

    Rate: one neuron a cycle while `enable`. Latency: `count_bits` + 2 enabled cycles.

    Members
    -------
    enable : ``In(1)``, moves the pipeline
    i : ``In``: `v`, `theta`, `lo`, `n_pos`, and `fires`, without which v passes unchanged; perhaps `theta_neg`
    o : ``Out``: `count` and `rest`, the membrane after its reset
    """

    def __init__(self, membrane_bits: int, threshold_bits: int, count_bits: int, negative_threshold: int = 0) -> None:
        self.membrane_bits, self.threshold_bits, self.count_bits = membrane_bits, threshold_bits, count_bits
        self.negative_threshold = negative_threshold
        super().__init__(
            {
                "enable": In(1),
                "i": In(
                    data.StructLayout(
                        {
                            "v": signed(membrane_bits),
                            "theta": unsigned(threshold_bits),
                            "lo": 8,
                            "n_pos": 8,
                            "fires": 1,
                        }
                        | ({"theta_neg": unsigned(threshold_bits)} if negative_threshold else {})
                    )
                ),
                "o": Out(data.StructLayout({"count": layouts.COUNT, "rest": signed(membrane_bits)})),
            }
        )

    @property
    def latency(self) -> int:
        """Enabled cycles from `i` to `o`."""
        return self.count_bits + 2

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        step = data.StructLayout(
            {
                "rest": self.membrane_bits,
                "theta": self.threshold_bits,
                "quotient": self.count_bits,
                "limit": 8,
                "negative": 1,
                # A negative membrane that may not fire: the complement is only undone.
                "silent": 1,
            }
        )
        stages = [Signal(step, name=f"search{stage}") for stage in range(self.count_bits + 1)]
        negative = self.i.fires & (self.i.v < 0)
        silent = self.i.lo == 0
        if self.negative_threshold:
            silent = silent | (~self.i.v < self.i.theta_neg)
        with m.If(self.enable):
            m.d.sync += [
                stages[0].rest.eq(Mux(negative, ~self.i.v, self.i.v)),
                stages[0].theta.eq(self.i.theta),
                stages[0].quotient.eq(0),
                stages[0].limit.eq(Mux(~self.i.fires, 0, Mux(negative, Mux(silent, 0, self.i.lo - 1), self.i.n_pos))),
                stages[0].negative.eq(negative),
                stages[0].silent.eq(negative & silent),
            ]
        for stage, bit in enumerate(reversed(range(self.count_bits))):
            before, after = stages[stage], stages[stage + 1]
            difference = Signal(signed(self.membrane_bits + 1), name=f"difference{bit}")
            # Signed, so that a membrane that only passes through does not look large.
            m.d.comb += difference.eq(before.rest - (before.theta << bit)[: self.membrane_bits])
            overflow = (before.theta << bit) >> self.membrane_bits != 0
            fits = (before.quotient + (1 << bit)) <= before.limit
            hit = fits & ~overflow & (difference >= 0)
            with m.If(self.enable):
                m.d.sync += [
                    after.eq(before),
                    after.rest.eq(Mux(hit, difference, before.rest)),
                    after.quotient.eq(before.quotient | (hit << bit)),
                ]
        found = stages[-1]
        with m.If(self.enable):
            m.d.sync += [
                self.o.count.eq(Mux(found.silent, 0, Mux(found.negative, -1 - found.quotient, found.quotient))),
                self.o.rest.eq(
                    Mux(found.negative, ~found.rest, found.rest) + Mux(found.negative & ~found.silent, found.theta, 0)
                ),
            ]
        return m


class Fire(wiring.Component):
    """Fire a tile's lanes, `fire_width` a cycle, while the next sum accumulates.

    Adds bias and the membrane carried over from the timestep before (or the initial potential), finds the spike count,
    resets the membrane, and packs counts (or membranes, or raw sums) into words for the spike memory.

    Without pairs, a sum is copied to a register that is shifted. With pairs, sums stay offered while they are fired,
    and lanes are selected: with two sums a lane, that takes fewer look-up tables.

    Rate: a sum every lanes / fire_width + 1 cycles, with pairs those of both positions without a cycle in between; at
    the second and later timesteps of a position it waits until the one before has left the pipeline, because the
    membrane comes from there. Latency: a cycle until a sum is taken; from there to its first word 9 + count_bits
    cycles, and as many as it takes to fire the lanes of that word.

    Members
    -------
    fire : ``In(descriptor(FIRE, configuration))``, constant while sums pass
    counts : ``In(1)``, constant while sums pass: of a sum only the bits of a count mean something (a maximum)
    paired : ``In(1)``, constant while sums pass: they are of both positions of pairs; with `pairs` only
    sums : ``In(stream.Signature(layouts.sums(configuration)))``
    tag : ``In(stream.Signature(tag(configuration)))``, one for each position
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the parameter memory
    words : ``Out(stream.Signature(spike_write(configuration)))``
    done : ``Out(1)``, high for each sum that was fired, when the last of its words is on its way to the queue
    empty : ``Out(1)``, high when no word of sums that are done is left here
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "fire": In(layouts.descriptor(FIRE, configuration)),
                "counts": In(1),
                "sums": In(stream.Signature(layouts.sums(configuration))),
                "tag": In(stream.Signature(layouts.tag(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "words": Out(stream.Signature(layouts.spike_write(configuration))),
                "done": Out(1),
                "empty": Out(1),
            }
            | ({"paired": In(1)} if configuration.pairs else {})
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration = self.configuration
        bits, lanes, width = configuration.membrane_bits, configuration.lanes, configuration.fire_width
        groups = lanes // width
        group_bits, width_bits = layouts.group_bits(configuration), width.bit_length() - 1
        spikes = self.fire.kind == FireKind.SPIKE
        raw = self.fire.kind == FireKind.RAW
        pairs = configuration.pairs

        # The sum that is being fired, lanes to go in the lowest places (without pairs), and what is known of it.
        shift = Signal(layouts.sums(configuration))
        tag = Signal(layouts.tag(configuration))
        firing = Signal()
        group = Signal(group_bits)
        last_group = group == groups - 1

        # Stages behind the shift register. `carry` goes along with each group.
        carry_layout = data.StructLayout(
            {
                "valid": 1,
                "group": group_bits,
                "end": 1,
                "output": layouts.address_bits(configuration),
                "upper": 1,
                "first": 1,
                "last": 1,
            }
            | ({"second": 1} if pairs else {})
        )
        depth = 4 + configuration.count_bits + 2
        carry = [Signal(carry_layout, name=f"carry{stage}") for stage in range(depth)]
        move = Signal()  # a register, because everything here waits for it
        in_flight = Cat(stage.valid for stage in carry).any()

        # Take a sum when the register is free. Membranes of the timestep before must be back first.
        take, settled = Signal(), Signal()
        free = ~firing | (move & last_group & self.tag.p.first)
        m.d.sync += settled.eq(~firing & ~in_flight)
        if pairs:
            # Only the sums of the second position are there already when those of the first one have been fired.
            at_hand = ~firing | self.tag.p.second
            m.d.comb += [
                take.eq(self.sums.valid & self.tag.valid & free & at_hand & (self.tag.p.first | settled)),
                self.sums.ready.eq(move & firing & last_group & (tag.second == self.paired)),
            ]
        else:
            # It is told a cycle ahead, because every bit of a sum goes by it.
            m.d.sync += take.eq(self.sums.valid & self.tag.valid & ~take & free & (self.tag.p.first | settled))
            m.d.comb += self.sums.ready.eq(take)
        m.d.comb += self.tag.ready.eq(take)
        with m.If(move & firing):
            m.d.sync += group.eq(group + 1)
            if not pairs:
                m.d.sync += shift.eq(shift.as_value() >> (bits * width))
            with m.If(last_group):
                m.d.sync += firing.eq(0)
        with m.If(take):
            if not pairs:
                m.d.sync += shift.eq(self.sums.p)
            m.d.sync += [tag.eq(self.tag.p), firing.eq(1), group.eq(0)]

        with m.If(move):
            m.d.sync += [
                carry[0].valid.eq(firing),
                carry[0].group.eq(group),
                carry[0].end.eq(last_group),
                carry[0].output.eq(tag.output),
                carry[0].upper.eq(tag.upper),
                carry[0].first.eq(tag.first),
                carry[0].last.eq(tag.last),
            ]
            if pairs:
                m.d.sync += carry[0].second.eq(tag.second)
            for stage in range(1, depth):
                m.d.sync += carry[stage].eq(carry[stage - 1])

        counts, values = [], []
        for lane in range(width):
            count, value = self._neuron(m, lane, shift, tag, group, carry, move, spikes, raw, width_bits)
            counts.append(count)
            values.append(value)

        # Pack. Newcomers enter at the top; a word is complete when its lowest value has reached the bottom.
        out = carry[-1]
        word = Signal(WORD_BITS)
        index = Signal(4)  # words of this tile that are complete
        filled = Signal(range(16 // width))
        wide = self.fire.wide
        per_word = Mux(spikes, Mux(wide, 8 // width, 16 // width), 2 // width)
        newcomers4 = Cat(count[:4] for count in counts)
        newcomers8 = Cat(count[:8] for count in counts)
        newcomers32 = Cat(_extend(value) for value in values)
        packed = Signal(WORD_BITS)
        with m.If(~spikes):
            m.d.comb += packed.eq(Cat(word, newcomers32)[32 * width :])
        with m.Elif(wide):
            m.d.comb += packed.eq(Cat(word, newcomers8)[8 * width :])
        with m.Else():
            m.d.comb += packed.eq(Cat(word, newcomers4)[4 * width :])
        complete = (filled + 1 == per_word) | out.end
        # Membranes are written after the last timestep only.
        wanted = layouts.steadily(self.fire, configuration) | out.last
        emit = out.valid & complete & wanted
        half = spikes & ~wide & (lanes < 16)
        # Words wait in a queue; while it may fill up, nothing moves.
        written = Signal(layouts.spike_write(configuration))
        writing = Signal()
        queue = m.submodules.queue = fifo.SyncFIFOBuffered(width=written.shape().size, depth=_WORDS)
        m.d.comb += [
            queue.w_data.eq(written),
            queue.w_en.eq(writing),
            self.words.valid.eq(queue.r_rdy),
            self.words.p.eq(queue.r_data),
            queue.r_en.eq(self.words.ready),
            self.done.eq(move & out.valid & out.end),
            self.empty.eq(~writing & (queue.level == 0)),
        ]
        # Two words may still come: one that is being written, and one of the move that is decided now.
        m.d.sync += move.eq(queue.level < _WORDS - 2)
        with m.If(move & out.valid):
            m.d.sync += [word.eq(packed), filled.eq(filled + 1)]
            with m.If(complete):
                m.d.sync += [filled.eq(0), index.eq(index + 1)]
            with m.If(out.end):
                m.d.sync += index.eq(0)
        m.d.sync += [
            writing.eq(move & emit),
            written.address.eq(out.output + index),
            # Half a word lies in the upper half now; the mask says which half of the memory's word it is for.
            written.data.eq(Mux(half, packed[32:].replicate(2), packed)),
            written.mask.eq(Mux(half, Mux(out.upper, 0b10, 0b01), 0b11)),
        ]
        return m

    def _neuron(
        self,
        m: Module,
        lane: int,
        shift: Any,
        tag: Any,
        group: Signal,
        carry: list[Any],
        move: Signal,
        spikes: Any,
        raw: Any,
        width_bits: int,
    ) -> tuple[Any, Any]:
        """Add the pipeline of the lanes `lane`, `lane + fire_width`, ...; return its count and value."""
        configuration = self.configuration
        bits, group_bits = configuration.membrane_bits, layouts.group_bits(configuration)
        rows = configuration.param_depth // configuration.fire_width

        # Parameters: the host writes them in two words, so both parts are whole bytes of block RAM, which have 9 bits.
        def padding(*used: int) -> int:
            return -sum(used) % _BYTE

        pair = data.StructLayout(
            {
                "theta": configuration.threshold_bits,
                "bias": signed(bits),
                "unused": padding(configuration.threshold_bits, bits),
            }
        )
        negative = {"theta_neg": configuration.threshold_bits} if configuration.negative_threshold else {}
        record = data.StructLayout(
            {"pair": pair, "start": signed(bits), **negative, "unused": padding(bits, *negative.values())}
        )
        bank = memory.Memory(shape=record.size, depth=rows, init=[], attrs=UNCHECKED if configuration.pairs else {})
        m.submodules[f"parameters{lane}"] = bank
        address = (tag.params >> width_bits) + group
        if configuration.pairs:
            write = bank.write_port(granularity=_BYTE)
            row = read_unchecked(m, bank, move, address)
        else:
            read, write = bank.read_port(), bank.write_port(granularity=_BYTE)
            m.d.comb += [read.addr.eq(address), read.en.eq(move)]
            row = read.data
        # A block RAM is slow to answer: nothing is added to what it has read before a register.
        params = Signal(record, name=f"params{lane}")
        channel, part = self.write.address >> 1, self.write.address[0]
        mine = self.write_enable & ((channel[:width_bits] == lane) if width_bits else 1)
        host_record = Signal(record, name=f"written{lane}")
        m.d.comb += [
            host_record.pair.theta.eq(self.write.data[:32]),
            host_record.pair.bias.eq(self.write.data[32:].as_signed()),
            host_record.start.eq(self.write.data[:32].as_signed()),
            write.addr.eq(channel >> width_bits),
            write.data.eq(host_record),
            write.en.eq(
                Cat(
                    (mine & ~part).replicate(pair.size // _BYTE),
                    (mine & part).replicate((record.size - pair.size) // _BYTE),
                )
            ),
        ]

        # What a lane keeps from one timestep to the next, for each position of a pair.
        kept = data.StructLayout({"rest": signed(bits), "emitted": layouts.EMITTED_BITS})
        out, keeps = carry[-1], []
        for second in range(1 + configuration.pairs):
            keep = memory.Memory(shape=kept, depth=1 << group_bits, init=[])
            m.submodules[f"{'second_' * second}keep{lane}"] = keep
            keep_write, keep_read = keep.write_port(), keep.read_port()
            m.d.comb += [keep_read.addr.eq(group), keep_read.en.eq(move)]
            keeps.append((keep_write, keep_read.data))
        from_before = keeps[0][1]
        if configuration.pairs:
            from_before = Mux(carry[0].second, keeps[1][1].as_value(), keeps[0][1].as_value())

        # Stage 0 beside the memories' outputs, 1 beside what was read, 2 with bias, 3 the membrane.
        membrane = signed(bits)
        if configuration.pairs:
            # One sum of some neighbouring groups at most, and zero from all other ones.
            near = min(configuration.lanes // configuration.fire_width, _NEIGHBOURS)
            near_bits = near.bit_length() - 1
            own = [self.sums.p[at] for at in range(lane, len(self.sums.p), configuration.fire_width)]
            firsts, seconds = own[: len(own) // 2], own[len(own) // 2 :]
            nearby = [Signal(membrane, name=f"near{at}_{lane}") for at in range(0, len(firsts), near)]
            selected = self._value(functools.reduce(operator.or_, nearby))
            select = []
            for number, each in enumerate(nearby):
                these = slice(number * near, (number + 1) * near)
                chosen = Array(firsts[these] + seconds[these])[Cat(group[:near_bits], tag.second)]
                select.append(each.eq(Mux(group[near_bits:] == number, chosen, 0)))
        else:
            selected = sum0 = Signal(membrane, name=f"sum0_{lane}")
            select = [sum0.eq(self._value(shift[lane]))]
        sum1 = Signal(membrane, name=f"sum1_{lane}")
        kept1 = Signal(kept, name=f"kept1_{lane}")
        sum2 = Signal(membrane, name=f"sum2_{lane}")
        before2 = Signal(membrane, name=f"before2_{lane}")
        emitted2 = Signal(layouts.EMITTED_BITS, name=f"emitted2_{lane}")
        theta2 = Signal(configuration.threshold_bits, name=f"theta2_{lane}")
        lo = Signal(8, name=f"lo{lane}")
        threshold = Threshold(
            bits, configuration.threshold_bits, configuration.count_bits, configuration.negative_threshold
        )
        m.submodules[f"threshold{lane}"] = threshold
        emitted1 = Mux(carry[1].first, 0, kept1.emitted)
        n_neg = self.fire.n_neg
        with m.If(move):
            m.d.sync += [
                *select,
                sum1.eq(selected),
                params.eq(row),
                kept1.eq(from_before),
                sum2.eq(sum1 + Mux(raw, 0, params.pair.bias)),
                before2.eq(Mux(raw, 0, Mux(carry[1].first, params.start, kept1.rest))),
                emitted2.eq(emitted1),
                theta2.eq(params.pair.theta),
                lo.eq(Mux(self.fire.rectified & (emitted1 < n_neg), emitted1, n_neg)),
                threshold.i.v.eq(sum2 + before2),
                threshold.i.theta.eq(theta2),
                threshold.i.lo.eq(lo),
                threshold.i.n_pos.eq(self.fire.n_pos),
                threshold.i.fires.eq(spikes),
            ]
        m.d.comb += threshold.enable.eq(move)
        if configuration.negative_threshold:
            m.d.comb += host_record.theta_neg.eq(self.write.data[32:])
            theta_neg2 = Signal(configuration.threshold_bits, name=f"theta_neg2_{lane}")
            with m.If(move):
                m.d.sync += [theta_neg2.eq(params.theta_neg), threshold.i.theta_neg.eq(theta_neg2)]

        emitted = [
            Signal(layouts.EMITTED_BITS, name=f"emitted{stage}_{lane}") for stage in range(threshold.latency + 1)
        ]
        with m.If(move):
            m.d.sync += emitted[0].eq(emitted2)
            for stage in range(1, len(emitted)):
                m.d.sync += emitted[stage].eq(emitted[stage - 1])
        for second, (keep_write, _) in enumerate(keeps):
            mine = out.valid & (out.second == second) if configuration.pairs else out.valid
            m.d.comb += [
                keep_write.addr.eq(out.group),
                keep_write.en.eq(move & mine),
                keep_write.data.rest.eq(threshold.o.rest),
                keep_write.data.emitted.eq(emitted[-1] + threshold.o.count),
            ]
        return threshold.o.count, threshold.o.rest

    def _value(self, total: Any) -> Any:
        """Return what is added to a membrane for a sum: of a maximum, the count."""
        return Mux(self.counts, total[: layouts.COUNT.width].as_signed(), total)


def _extend(value: Any) -> Any:
    """Sign-extend a membrane to the 32 bits it has in a word."""
    return Cat(value, value[-1].replicate(32 - len(value)))
