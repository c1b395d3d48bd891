"""Fetching the spike words of a position, ahead of their use."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, FireKind, PassMode

from . import layouts
from .gather import several


def step_layout(configuration: Configuration) -> data.StructLayout:
    """Return the layout of one step of a `Walk`: a word to fetch, or, where `blank`, the end of a sum without one.

    Of a pair, `second` says that the word is the second position's, `end` that no other one belongs to it, and `again`
    that the word of the first position is the one that came last, which was the second one's at the tap before.
    """
    return data.StructLayout(
        {
            "address": layouts.address_bits(configuration),
            "row": layouts.row_bits(configuration),
            "mode": unsigned(2),
            "wide": 1,
            "slot": 1,
            "sub": 3,
            "last": 1,
            "blank": 1,
        }
        | ({"second": 1, "end": 1, "again": 1} if configuration.pairs else {})
    )


class Walk(wiring.Component):
    """Walk over the timesteps, passes and window taps of a position, and name the spike words they touch.

    Taps outside the source are skipped, a whole row at a time. Of a pair of positions, a tap is visited for both at
    once: each of its words for the first and then for the second one, if it is inside the source for both. Where a
    pixel is a word and a pair two neighbours, the first one's word was the second one's at the tap before, and is not
    fetched again.

    Rate: one word a cycle within a tap. A tap inside the source costs two cycles more, in which the walk goes there and
    judges the place; a row above the source, or a tap left of it, costs three, those below and right of it none. A pass
    costs two, a position one; of a pair, a timestep costs one more where it begins with a tap that is inside. Latency:
    4 cycles from `item` to the first `step`, of a pair 5.

    Members
    -------
    layer : ``In(layer(configuration))``, constant while items are being worked on
    item : ``In(stream.Signature(item(configuration)))``, positions to work on; one is taken when it is done with
    step : ``Out(stream.Signature(step_layout(configuration)))``, the words, and the end of each sum
    tag : ``Out(stream.Signature(tag(configuration)))``, one for each position and timestep, before its first step; two
        for a pair of them
    working : ``Out(1)``, high while there is more to do for an item
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "layer": In(layouts.layer(configuration)),
                "item": In(stream.Signature(layouts.item(configuration))),
                "step": Out(stream.Signature(step_layout(configuration))),
                "tag": Out(stream.Signature(layouts.tag(configuration))),
                "working": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        layer, lanes, item = self.layer, self.configuration.lanes, self.item.p
        address_bits, row_bits = layouts.address_bits(self.configuration), layouts.row_bits(self.configuration)
        working, step = self.working, self.step

        # Where the walk is. `line` values belong to the first tap of the window's row, `tap` values to the tap's first
        # word.
        time = Signal(8)
        slot = Signal(1)
        ky, kx, word_index = Signal(7), Signal(7), Signal(10)
        y, x = Signal(layouts.COORDINATE), Signal(layouts.COORDINATE)
        line_address, tap_address, address = Signal(address_bits), Signal(address_bits), Signal(address_bits)
        line_row, tap_row, row = Signal(row_bits), Signal(row_bits), Signal(row_bits)
        # Where this timestep's maps start, from the first timestep's on.
        time_offset = [Signal(address_bits, name=f"time_offset{index}") for index in range(PASS_SLOTS)]
        output_offset = Signal(address_bits)

        # Descriptors of the present pass, in registers except where every cell counts.
        domain = "comb" if self.configuration.compact else "sync"
        window, source, weights, steps = (
            layouts.select(m, [getattr(each, name) for each in layouts.passes(layer)], slot, name, domain)
            for name in ("window", "source", "weights", "steps")
        )
        # The second position of a pair lies further right; without pairs it is the first one.
        pairs = self.configuration.pairs
        right, reach_x = x, 0
        if pairs:
            paired = layer.extent.pairs
            right = Signal(layouts.COORDINATE)
            reach_x = Mux(paired, window.stride_x >> 1, 0)
        # Judging a place takes a cycle; what it gives is in registers, which hold while the place does not change.
        judged = Signal()

        def register(name: str, value: Any) -> Signal:
            held = Signal(name=name)
            m.d.sync += held.eq(value)
            return held

        last_slot = register("last_slot", slot + 1 == layer.extent.passes)
        last_time = register("last_time", time + 1 == layer.extent.timesteps)
        elementwise = (weights.mode == PassMode.ELEMENTWISE) | (weights.mode == PassMode.MAXIMUM)

        # Is this tap inside the source, and is it the last one that is?
        height, width = window.height, window.width
        beyond = (y >= height) | (x >= width)
        last_line = register("last_line", (ky + 1 == window.kernel_h) | (y + 1 >= height))
        last_tap = register("last_tap", (kx + 1 == window.kernel_w) | (x + 1 >= width))
        # A window can lie outside altogether; then the last pass still has to end the sum.
        outside = beyond | ((ky + 1 == window.kernel_h) & (y < 0)) | ((kx + 1 == window.kernel_w) & (right < 0))
        closing = slot + 1 == layer.extent.passes
        inside = register("inside", ~beyond & (y >= 0) & (right >= 0))
        outside_pass, outside_sum = (
            register("outside_pass", outside & ~closing),
            register("outside_sum", outside & closing),
        )
        above, left = register("above", ~outside & (y < 0)), register("left", ~outside & (y >= 0) & (right < 0))
        started = Signal()  # this position's and timestep's tag has been handed over
        # What is left in this cycle is gone on from in the next one; only from word to word it goes on at once.
        go, next_word, leave_tap, leave_line, leave_pass = (
            Signal(name=name) for name in ("go", "next_word", "leave_tap", "leave_line", "leave_pass")
        )
        end_tap, end_line = register("end_tap", leave_tap), register("end_line", leave_line)
        end_pass = register("end_pass", leave_pass)
        end_time, end_item = Signal(), Signal()
        last_word = register("last_word", Mux(next_word, word_index + 2, word_index + 1) == weights.words)
        last_step = outside_sum | (last_word & last_tap & last_line)
        # Where a tap is inside for both positions of a pair, the walk goes on in the second one's turn.
        on, word_address, last_sum = go, address, last_slot & last_step
        if pairs:
            one_word = (weights.words == 1) & (weights.mode == PassMode.BROADCAST)
            neighbours = register("neighbours", (window.stride_x == 2) & one_word)  # late where kx is 0: no matter
            same = neighbours & (kx != 0)
            # (Where the second position is left of the right border, the first one is, too.)
            within = paired & ~(y >= height) & (y >= 0) & (x >= 0) & (right < width)
            both, again = register("both", within & ~same), register("again", within & same)
            second = Signal()  # the second position's turn
            first_left = register("first_left", paired & (x < 0))
            is_second = Mux(both, second, first_left | again)
            reach, second_address = Signal(address_bits), Signal(address_bits)
            last_turn = ~both | second
            on, last_sum = go & last_turn, last_sum & last_turn
            word_address = Mux(is_second, second_address, address)
            m.d.sync += [
                reach.eq(Mux(paired, steps.x >> 1, 0)),
                second_address.eq(address + reach + next_word),
            ]
            with m.If(go & both):
                m.d.sync += second.eq(~second)
            m.d.comb += [
                step.p.second.eq(is_second),
                step.p.end.eq(last_turn | (weights.mode != PassMode.BROADCAST)),
                step.p.again.eq(again),
            ]
        # With 8 lanes, two tiles share a word of 16 counts.
        whole_tile = elementwise & ~weights.wide if lanes < 16 else 0
        m.d.comb += [
            step.p.blank.eq(outside_sum),
            step.p.address.eq(word_address),
            step.p.row.eq(row),
            step.p.mode.eq(weights.mode),
            step.p.wide.eq(weights.wide),
            step.p.slot.eq(slot),
            step.p.sub.eq(Mux(whole_tile, item.tile[0], word_index)),
            step.p.last.eq(last_sum),
            step.valid.eq(judged & (inside | outside_sum) & started),
            go.eq(judged & started & step.ready),
            next_word.eq(on & inside & ~last_word),
            leave_tap.eq((judged & left) | (on & inside & last_word & ~last_tap)),
            leave_line.eq((judged & above) | (on & inside & last_word & last_tap & ~last_line)),
            leave_pass.eq((judged & outside_pass) | (on & (inside | outside_sum) & last_step)),
            self.tag.valid.eq(working & ~started),
            self.tag.p.params.eq(item.params),
            self.tag.p.first.eq(time == 0),
            self.tag.p.last.eq(time + 1 == layer.extent.timesteps),
        ]
        tagged, output = self.tag.valid & self.tag.ready, item.output + output_offset
        if pairs:
            # Two tags, each a cycle later, when its address is in a register.
            other_tag, placed = Signal(), Signal()
            placed_output = Signal(address_bits)
            m.d.sync += [
                placed_output.eq(output + Mux(other_tag, layer.output.pixel_pitch >> 1, 0)),
                placed.eq(working & ~started & ~tagged),
            ]
            m.d.comb += [self.tag.valid.eq(working & ~started & placed), self.tag.p.second.eq(other_tag)]
            output = placed_output
            with m.If(tagged):
                m.d.sync += other_tag.eq(paired & ~other_tag)
            tagged = tagged & (~paired | other_tag)
        with m.If(tagged):
            m.d.sync += started.eq(1)

        # Output address: the tile's words start at a whole or half word of the pixel.
        tile_bits = item.tile * (lanes * 4)  # 4 bits a count
        counts = layer.fire.kind == FireKind.SPIKE
        if self.configuration.probabilistic:
            counts = counts | (layer.fire.kind == FireKind.PROBABILISTIC)
        with m.If(counts):
            with m.If(layer.fire.wide):
                m.d.comb += self.tag.p.output.eq(output + (tile_bits >> 5))
            with m.Else():
                m.d.comb += [self.tag.p.output.eq(output + (tile_bits >> 6)), self.tag.p.upper.eq(tile_bits[5])]
        with m.Else():
            m.d.comb += self.tag.p.output.eq(output + (tile_bits >> 3))

        def tile_offset(chosen: Any) -> Signal:
            offset = Signal(address_bits)
            bits = (item.tile * (lanes * 4)).as_unsigned()
            with m.Switch(chosen.mode):
                with m.Case(PassMode.BROADCAST):
                    m.d.comb += offset.eq(0)
                with m.Case(PassMode.RAW):
                    m.d.comb += offset.eq(bits >> 3)
                with m.Default():
                    m.d.comb += offset.eq(Mux(chosen.wide, bits >> 5, bits >> 6))
            return offset

        # Advance.
        take = Signal()
        m.d.comb += [
            end_time.eq(end_pass & last_slot),
            end_item.eq(end_time & last_time),
            take.eq(self.item.valid & ~working),
            self.item.ready.eq(end_item),
        ]
        # A pass begins in three steps: which one, what describes it, and where it is.
        beginning, entering = Signal(), Signal()
        leaving = leave_pass | leave_line | leave_tap | end_pass | end_line | end_tap
        m.d.sync += judged.eq(working & ~(leaving | beginning | entering))
        m.d.sync += [beginning.eq(take | end_pass), entering.eq(beginning)]
        with m.If(take | end_pass):
            m.d.sync += slot.eq(~(last_slot | take))

        chosen = Signal.like(item.window[0])
        m.d.comb += chosen.eq(Mux(slot, item.window[1], item.window[0]))
        chosen_offset = Signal(address_bits)
        m.d.comb += chosen_offset.eq(Mux(slot, time_offset[1], time_offset[0]))
        start_address = (chosen.origin + chosen_offset + tile_offset(weights))[:address_bits]
        with m.If(entering):
            m.d.sync += [
                ky.eq(0),
                kx.eq(0),
                word_index.eq(0),
                y.eq(chosen.y),
                x.eq(chosen.x),
                *([right.eq(chosen.x + reach_x)] if pairs else []),
                line_address.eq(start_address),
                tap_address.eq(start_address),
                address.eq(start_address),
                line_row.eq(chosen.row),
                tap_row.eq(chosen.row),
                row.eq(chosen.row),
            ]
        with m.Elif(end_line):
            address_below = (line_address + source.row_pitch)[:address_bits]
            row_below = (line_row + steps.row_line)[:row_bits]
            m.d.sync += [
                ky.eq(ky + 1),
                kx.eq(0),
                word_index.eq(0),
                y.eq(y + 1),
                x.eq(chosen.x),
                *([right.eq(chosen.x + reach_x)] if pairs else []),
                line_address.eq(address_below),
                tap_address.eq(address_below),
                address.eq(address_below),
                line_row.eq(row_below),
                tap_row.eq(row_below),
                row.eq(row_below),
            ]
        with m.Elif(end_tap):
            address_right = (tap_address + source.pixel_pitch)[:address_bits]
            row_right = (tap_row + steps.row_tap)[:row_bits]
            m.d.sync += [
                kx.eq(kx + 1),
                word_index.eq(0),
                x.eq(x + 1),
                *([right.eq(right + 1)] if pairs else []),
                tap_address.eq(address_right),
                address.eq(address_right),
                tap_row.eq(row_right),
                row.eq(row_right),
            ]
        with m.Elif(next_word):
            m.d.sync += [word_index.eq(word_index + 1), address.eq(address + 1), row.eq(row + steps.row_word)]

        with m.If(end_time):
            m.d.sync += [time.eq(time + 1), started.eq(0)]
            for each, described in zip(time_offset, layouts.passes(layer), strict=True):
                m.d.sync += each.eq(each + described.source.time_pitch)
            with m.If(layouts.steadily(layer.fire, self.configuration)):
                m.d.sync += output_offset.eq(output_offset + layer.output.time_pitch)
        with m.If(end_item):
            m.d.sync += working.eq(0)
        with m.If(take):
            m.d.sync += [working.eq(1), started.eq(0), time.eq(0), output_offset.eq(0)]
            m.d.sync += [each.eq(0) for each in time_offset]
        return m


class Fetch(wiring.Component):
    """Fetch the spike words that a `Walk` over a position touches.

    Words that are all zero are dropped here, so that a column never spends a cycle of its lanes on them; a queue of
    `configuration.prefetch` words hides their fetch.

    Rate: that of the walk while granted. Latency: 7 cycles from `item` to the first `request`, 4 from `word` to
    `fetched`.

    Members
    -------
    layer : ``In(layer(configuration))``, constant while items are being worked on
    item : ``In(stream.Signature(item(configuration)))``, positions to work on
    request : ``Out(stream.Signature(address_bits))``, addresses to read from the spike memory
    word : ``In(64)``, with `word_valid`: the words of the requests, in their order
    fetched : ``Out(stream.Signature(fetched(configuration)))``, words with something in them, and each sum's last
    tag : ``Out(stream.Signature(tag(configuration)))``, one for each position and timestep, in the order of the sums
    working : ``Out(1)``, high from taking an item until its last fetch
    read_word : ``Out(1)``, a register: high for each word that has come, 2 cycles later
    zero_word : ``Out(1)``, likewise, for each of them that was dropped or only ends a sum
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "layer": In(layouts.layer(configuration)),
                "item": In(stream.Signature(layouts.item(configuration))),
                "request": Out(stream.Signature(layouts.address_bits(configuration))),
                "word": In(WORD_BITS),
                "word_valid": In(1),
                "fetched": Out(stream.Signature(layouts.fetched(configuration))),
                "tag": Out(stream.Signature(layouts.tag(configuration))),
                "working": Out(1),
                "read_word": Out(1),
                "zero_word": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration = self.configuration
        m.submodules.walk = walk = Walk(configuration)
        connect(m, flipped(self.layer), walk.layer)
        connect(m, flipped(self.item), walk.item)
        connect(m, walk.tag, flipped(self.tag))
        m.d.comb += self.working.eq(walk.working)

        # Credits: places in the queue that no fetch is on its way to.
        # (One place more than credits: the queue's output register does not always count as one.)
        prefetch, layout = configuration.prefetch, layouts.fetched(configuration)
        queue = m.submodules.queue = fifo.SyncFIFOBuffered(width=layout.size, depth=prefetch + 1)
        credits = Signal(range(prefetch + 1), init=prefetch)
        dropped, taken = Signal(), Signal()
        room = Signal()  # there was a credit more than one in the cycle before
        m.d.sync += room.eq(credits > 1)
        # Addresses wait in a queue of their own, which can lie beside the spike memory, far from the walk and from what
        # is known of their words. So nothing goes from here to the memory's arbiter and back within a cycle, and
        # the way there has a register. Credits keep both queues from overflowing. A step without a word fetches one
        # all the same, so that words and what is known of them stay in step.
        shape = step_layout(configuration)
        addresses = fifo.SyncFIFOBuffered(width=len(walk.step.p.address), depth=prefetch + 1)
        known = fifo.SyncFIFOBuffered(width=shape.size, depth=prefetch + 1)
        m.submodules.addresses, m.submodules.known = addresses, known
        arrived, word, valid = data.View(shape, known.r_data), Signal(WORD_BITS), Signal()
        asked, asking = Signal.like(walk.step.p.address), Signal()
        m.d.sync += [asked.eq(walk.step.p.address), asking.eq(walk.step.valid & room)]
        m.d.comb += [
            walk.step.ready.eq(room),
            addresses.w_data.eq(asked),
            addresses.w_en.eq(asking),
            known.w_data.eq(walk.step.p),
            known.w_en.eq(walk.step.valid & room),
            self.request.p.eq(addresses.r_data),
            self.request.valid.eq(addresses.r_rdy),
            addresses.r_en.eq(self.request.ready),
            known.r_en.eq(valid),
        ]
        # The memory is far away, too. (Columns at one port see the same words, and synthesis would have them share one
        # register, far from most of them, if they did not keep their own words only.)
        m.d.sync += valid.eq(self.word_valid)
        with m.If(self.word_valid):
            m.d.sync += word.eq(self.word)

        marks4 = Cat(word.word_select(index, 4).any() for index in range(16))
        marks8 = Cat(word.word_select(index, 8).any() for index in range(8))
        marks = Mux(arrived.mode != PassMode.BROADCAST, 1, Mux(arrived.wide, marks8, marks4))
        useless = arrived.blank | (~word.any() & (arrived.mode != PassMode.MAXIMUM))
        # First what is in a word, a cycle later whether there are several counts in it.
        entry, found, kept = Signal(layout), Signal(layout), Signal()
        # A word that goes to the lanes as a whole is one event, whatever is in it; no mark means no event.
        found_marks = Mux(useless, 0, marks)
        if self.configuration.pairs:
            keeps, found_marks = self._pair(m, arrived, valid, word, useless, found, found_marks)
            m.d.sync += [kept.eq(valid & keeps), dropped.eq(valid & ~keeps)]
        else:
            m.d.sync += [
                found.word.eq(word),
                kept.eq(valid & (~useless | arrived.last)),
                dropped.eq(valid & useless & ~arrived.last),
            ]
        m.d.sync += [
            found.marks.eq(found_marks),
            found.row.eq(arrived.row),
            found.slot.eq(arrived.slot),
            found.sub.eq(arrived.sub),
            found.last.eq(arrived.last),
            self.read_word.eq(valid & ~arrived.blank),
            self.zero_word.eq(valid & ~arrived.blank & useless),
        ]
        m.d.comb += [
            entry.eq(found),
            entry.several.eq(several(found.marks)),
            queue.w_data.eq(entry),
            queue.w_en.eq(kept),
            self.fetched.valid.eq(queue.r_rdy),
            self.fetched.p.eq(queue.r_data),
            queue.r_en.eq(self.fetched.ready),
            taken.eq(self.fetched.valid & self.fetched.ready),
        ]
        m.d.sync += credits.eq(credits - known.w_en + dropped + taken)
        return m

    def _pair(
        self, m: Module, arrived: Any, valid: Signal, word: Signal, useless: Any, found: Any, marks: Any
    ) -> tuple[Any, Any]:
        """Put the words of a pair side by side; return whether there is something to keep, and the marks of both.

        The first word waits in `found` for the second one, whose mark `end` it has not got; its credit comes back when
        it has come.
        """
        begins = Signal(init=1)  # what came before belongs to something else
        last_marks, last_useless = Signal(layouts.MARKS), Signal()  # of the word before this one
        broadcast = arrived.mode == PassMode.BROADCAST
        belongs = arrived.again | ~begins
        any_count = ~useless | (belongs & ~last_useless)
        all_marks = marks | Mux(belongs, last_marks, 0)
        with m.If(valid):
            m.d.sync += [begins.eq(arrived.end), found.second.eq(arrived.second & ~broadcast)]
            m.d.sync += [last_marks.eq(marks), last_useless.eq(useless)]
            with m.If(arrived.second & broadcast):
                m.d.sync += found.other.eq(word)
                with m.If(arrived.again):
                    m.d.sync += found.word.eq(found.other)
                with m.Elif(begins):
                    m.d.sync += found.word.eq(0)
            with m.Else():
                m.d.sync += [found.word.eq(word), found.other.eq(0)]
        return arrived.end & (any_count | arrived.last), all_marks
