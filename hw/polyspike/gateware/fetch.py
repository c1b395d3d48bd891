"""Fetching the spike words of a position, ahead of their use."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.instructions import FireKind, PassMode

from . import layouts

#: Cycles from a granted fetch to its word.
READ_LATENCY = 2

#: What is known of a word while it is on its way from the spike memory.
_PENDING = data.StructLayout(
    {"valid": 1, "blank": 1, "whole": 1, "keep": 1, "wide": 1, "last": 1, "slot": 1, "sub": 3, "row": 16}
)


class Fetch(wiring.Component):
    """Walk over the timesteps, passes and window taps of a position and fetch the spike words they touch.

    Words that are all zero are dropped here, so that a column never spends a cycle of its lanes on them; a queue of
    `configuration.prefetch` words hides their fetch. Taps outside the source are skipped, a whole row at a time.

    Rate: one word a cycle while granted; a row above or a tap left of the source costs one cycle, those below and right
    of it none; two cycles between positions. Latency: 2 cycles from `item` to the first `request`, READ_LATENCY + 2
    from a granted `request` to its word at `fetched`.

    Members
    -------
    layer : ``In(LAYER)``, constant while items are being worked on
    item : ``In(stream.Signature(ITEM))``, positions to work on
    request : ``Out(stream.Signature(16))``, addresses to read from the spike memory
    word : ``In(64)``, the word of a request, READ_LATENCY cycles after its transfer
    fetched : ``Out(stream.Signature(FETCHED))``, words with something in them, and the last one of each sum
    tag : ``Out(stream.Signature(TAG))``, one for each position and timestep, in the order of the sums
    working : ``Out(1)``, high from taking an item until its last fetch
    zero_word : ``Out(1)``, high for each word that was dropped
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "layer": In(layouts.LAYER),
                "item": In(stream.Signature(layouts.ITEM)),
                "request": Out(stream.Signature(ADDRESS_BITS)),
                "word": In(WORD_BITS),
                "fetched": Out(stream.Signature(layouts.FETCHED)),
                "tag": Out(stream.Signature(layouts.TAG)),
                "working": Out(1),
                "zero_word": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        layer, lanes = self.layer, self.configuration.lanes
        item = Signal(layouts.ITEM)
        working = self.working

        # Where the walk is. `line` values belong to the first tap of the window's row, `tap` values to the tap's first
        # word.
        time = Signal(8)
        slot = Signal(1)
        ky, kx, word_index = Signal(7), Signal(7), Signal(10)
        y, x = Signal(layouts.COORDINATE), Signal(layouts.COORDINATE)
        line_address, tap_address, address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        line_row, tap_row, row = Signal(16), Signal(16), Signal(16)
        time_offset = [Signal(ADDRESS_BITS, name=f"time_offset{index}") for index in range(len(item.window))]
        output = Signal(ADDRESS_BITS)

        window, source, weights, steps = (
            layouts.select(m, [getattr(each, name) for each in layouts.passes(layer)], slot, name)
            for name in ("window", "source", "weights", "steps")
        )
        last_slot = slot + 1 == layer.extent.passes
        last_time = time + 1 == layer.extent.timesteps
        elementwise = (weights.mode == PassMode.ELEMENTWISE) | (weights.mode == PassMode.MAXIMUM)

        # Is this tap inside the source, and is it the last one that is?
        above, left = y < 0, x < 0
        height, width = window.height, window.width
        below, right = y >= height, x >= width
        last_line = (ky + 1 == window.kernel_h) | (y + 1 >= height)
        last_tap = (kx + 1 == window.kernel_w) | (x + 1 >= width)
        last_word = word_index + 1 == weights.words
        # A window can lie outside altogether; then the last pass still has to end the sum.
        outside = below | right | ((ky + 1 == window.kernel_h) & above) | ((kx + 1 == window.kernel_w) & left)

        # Credits: places in the queue that no fetch is on its way to.
        # (One place more than credits: the queue's output register does not always count as one.)
        prefetch = self.configuration.prefetch
        queue = m.submodules.queue = fifo.SyncFIFOBuffered(width=layouts.FETCHED.size, depth=prefetch + 1)
        credits = Signal(range(prefetch + 1), init=prefetch)
        dropped, taken = Signal(), Signal()

        inside = working & ~above & ~left & ~below & ~right
        started = Signal()  # this position's and timestep's tag has been handed over
        fetch, blank, skip_tap, skip_line, skip_pass = (
            Signal(name=name) for name in ("fetch", "blank", "skip_tap", "skip_line", "skip_pass")
        )
        m.d.comb += [
            self.request.p.eq(address),
            self.request.valid.eq(inside & (credits != 0) & started),
            fetch.eq(self.request.valid & self.request.ready),
            blank.eq(working & outside & last_slot & (credits != 0) & started),
            skip_pass.eq(working & outside & ~last_slot),
            skip_line.eq(working & ~outside & above),
            skip_tap.eq(working & ~outside & ~above & left),
            self.tag.valid.eq(working & ~started),
            self.tag.p.params.eq(item.params),
            self.tag.p.first.eq(time == 0),
            self.tag.p.last.eq(last_time),
        ]
        with m.If(self.tag.valid & self.tag.ready):
            m.d.sync += started.eq(1)

        # Output address: the tile's words start at a whole or half word of the pixel.
        tile_bits = item.tile * (lanes * 4)  # 4 bits a count
        with m.If(layer.fire.kind == FireKind.SPIKE):
            with m.If(layer.fire.wide):
                m.d.comb += self.tag.p.output.eq(output + (tile_bits >> 5))
            with m.Else():
                m.d.comb += [self.tag.p.output.eq(output + (tile_bits >> 6)), self.tag.p.upper.eq(tile_bits[5])]
        with m.Else():
            m.d.comb += self.tag.p.output.eq(output + (tile_bits >> 3))

        def tile_offset(chosen: Any) -> Signal:
            offset = Signal(ADDRESS_BITS)
            bits = (item_next.tile * (lanes * 4)).as_unsigned()
            with m.Switch(chosen.mode):
                with m.Case(PassMode.BROADCAST):
                    m.d.comb += offset.eq(0)
                with m.Case(PassMode.RAW):
                    m.d.comb += offset.eq(bits >> 3)
                with m.Default():
                    m.d.comb += offset.eq(Mux(chosen.wide, bits >> 5, bits >> 6))
            return offset

        # Advance.
        end_tap = skip_tap | (fetch & last_word)
        end_line = skip_line | (fetch & last_word & last_tap)
        end_pass = skip_pass | blank | (fetch & last_word & last_tap & last_line)
        end_time = end_pass & last_slot
        end_item = end_time & last_time

        item_next = Signal(layouts.ITEM)
        take = Signal()
        m.d.comb += [
            take.eq(self.item.valid & ~working),
            self.item.ready.eq(~working),
            item_next.eq(Mux(take, self.item.p, item)),
        ]
        next_slot = Mux(last_slot | take, 0, 1)
        offsets = [tile_offset(each.weights) for each in layouts.passes(layer)]
        next_window = Signal.like(item.window[0])
        m.d.comb += next_window.eq(Mux(next_slot, item_next.window[1], item_next.window[0]))
        # The offset of the timestep that the next pass belongs to.
        next_time_offset = [
            Mux(take, 0, Mux(end_time, each + layouts.passes(layer)[index].source.time_pitch, each))
            for index, each in enumerate(time_offset)
        ]
        start_address = (
            next_window.origin
            + Mux(next_slot, next_time_offset[1], next_time_offset[0])
            + Mux(next_slot, offsets[1], offsets[0])
        )[:ADDRESS_BITS]

        with m.If(take | end_pass):
            m.d.sync += [
                slot.eq(next_slot),
                ky.eq(0),
                kx.eq(0),
                word_index.eq(0),
                y.eq(next_window.y),
                x.eq(next_window.x),
                line_address.eq(start_address),
                tap_address.eq(start_address),
                address.eq(start_address),
                line_row.eq(next_window.row),
                tap_row.eq(next_window.row),
                row.eq(next_window.row),
            ]
        with m.Elif(end_line):
            address_below = (line_address + source.row_pitch)[:ADDRESS_BITS]
            row_below = (line_row + steps.row_line)[:16]
            m.d.sync += [
                ky.eq(ky + 1),
                kx.eq(0),
                word_index.eq(0),
                y.eq(y + 1),
                x.eq(Mux(slot, item.window[1].x, item.window[0].x)),
                line_address.eq(address_below),
                tap_address.eq(address_below),
                address.eq(address_below),
                line_row.eq(row_below),
                tap_row.eq(row_below),
                row.eq(row_below),
            ]
        with m.Elif(end_tap):
            address_right = (tap_address + source.pixel_pitch)[:ADDRESS_BITS]
            row_right = (tap_row + steps.row_tap)[:16]
            m.d.sync += [
                kx.eq(kx + 1),
                word_index.eq(0),
                x.eq(x + 1),
                tap_address.eq(address_right),
                address.eq(address_right),
                tap_row.eq(row_right),
                row.eq(row_right),
            ]
        with m.Elif(fetch):
            m.d.sync += [word_index.eq(word_index + 1), address.eq(address + 1), row.eq(row + steps.row_word)]

        with m.If(end_time):
            m.d.sync += [time.eq(time + 1), started.eq(0)]
            m.d.sync += [each.eq(next_time_offset[index]) for index, each in enumerate(time_offset)]
            with m.If(layer.fire.kind != FireKind.MEMBRANE):
                m.d.sync += output.eq(output + layer.output.time_pitch)
        with m.If(end_item):
            m.d.sync += working.eq(0)
        with m.If(take):
            m.d.sync += [item.eq(self.item.p), working.eq(1), started.eq(0), time.eq(0), output.eq(self.item.p.output)]
            m.d.sync += [each.eq(0) for each in time_offset]

        # Words on their way, with what is known of them.
        pending = [Signal(_PENDING, name=f"pending{stage}") for stage in range(READ_LATENCY + 1)]
        entering, arrived = pending[0], pending[-1]
        whole_tile = elementwise & ~weights.wide if lanes < 16 else 0
        m.d.comb += [
            entering.valid.eq(fetch | blank),
            entering.blank.eq(blank),
            entering.whole.eq(elementwise | (weights.mode == PassMode.RAW)),
            entering.keep.eq(weights.mode == PassMode.MAXIMUM),
            entering.wide.eq(weights.wide),
            entering.last.eq(end_time),
            entering.slot.eq(slot),
            # With 8 lanes, two tiles share a word of 16 counts.
            entering.sub.eq(Mux(whole_tile, item.tile[0], word_index)),
            entering.row.eq(row),
        ]
        for before, after in itertools.pairwise(pending):
            m.d.sync += after.eq(before)

        marks4 = Cat(self.word.word_select(index, 4).any() for index in range(16))
        marks8 = Cat(self.word.word_select(index, 8).any() for index in range(8))
        useless = arrived.blank | (~self.word.any() & ~arrived.keep)
        entry = Signal(layouts.FETCHED)
        m.d.comb += [
            entry.word.eq(self.word),
            # A word that goes to the lanes as a whole is one event, whatever is in it; no mark means no event.
            entry.marks.eq(Mux(useless, 0, Mux(arrived.whole, 1, Mux(arrived.wide, marks8, marks4)))),
            entry.row.eq(arrived.row),
            entry.slot.eq(arrived.slot),
            entry.sub.eq(arrived.sub),
            entry.last.eq(arrived.last),
            queue.w_data.eq(entry),
            queue.w_en.eq(arrived.valid & (~useless | arrived.last)),
            dropped.eq(arrived.valid & useless & ~arrived.last),
            self.zero_word.eq(arrived.valid & ~arrived.blank & useless),
            self.fetched.valid.eq(queue.r_rdy),
            self.fetched.p.eq(queue.r_data),
            queue.r_en.eq(self.fetched.ready),
            taken.eq(self.fetched.valid & self.fetched.ready),
        ]
        m.d.sync += credits.eq(credits - (fetch | blank) + dropped + taken)
        return m
