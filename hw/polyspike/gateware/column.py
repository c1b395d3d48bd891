"""A column: fetch, gather, lanes and fire, one behind the other."""

from amaranth.hdl import Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

from . import layouts
from .buffer import Buffer, connect_queue
from .fetch import Fetch
from .fire import Fire
from .gather import Gather
from .lanes import Lanes
from .probabilistic import attach

#: Positions that wait in a column, so that one which is slow does not keep the others from theirs. None do with pairs:
#: the dealer passes over a column without room.
_ITEMS = 4

#: Sums that may be under way in a column: from the fetch of their words to the write of their counts.
_TAGS = 16


class Column(wiring.Component):
    """L output channels of one position at a time, on an event stream of its own.

    Rate: one event (L additions) a cycle while words are fetched in time and sums are fired in time.

    Members
    -------
    layer : ``In(layer(configuration))``, constant while the column is not idle
    item : ``In(stream.Signature(item(configuration)))``, positions to work on
    request, word, word_valid : the column's spike memory port, see `Fetch`
    words : ``Out(stream.Signature(spike_write(configuration)))``, results
    write : ``In(COLUMN_WRITE)``, with `write_weights` or `write_params`: the host's writes
    idle : ``Out(1)``, high when nothing is under way and all results are written
    activity : ``Out(ACTIVITY)``, what the column did in the cycle before
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(layouts.column(configuration) | {"word_valid": In(1)})

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        m.submodules.fetch = fetch = Fetch(self.configuration)
        m.submodules.gather = gather = Gather(self.configuration)
        m.submodules.lanes = lanes = Lanes(self.configuration)
        m.submodules.fire = fire = Fire(self.configuration)
        layer = flipped(self.layer)
        connect(m, layer, fetch.layer)
        connect(m, layer.fire, fire.fire)
        m.d.comb += fire.counts.eq(self.layer.pass0.weights.mode == PassMode.MAXIMUM)
        if self.configuration.pairs:
            m.d.comb += [block.paired.eq(self.layer.extent.pairs) for block in (lanes, fire)]
        for block in (gather, lanes):
            for index, each in enumerate(layouts.passes(layer)):
                connect(m, each.weights, block.weights[index])
        for block, enable in ((lanes, self.write_weights), (fire, self.write_params)):
            m.d.comb += [block.write.eq(self.write), block.write_enable.eq(enable)]

        # Positions come from afar, and results go far: no path leads out of the column but from a register.
        m.submodules.arriving = arriving = Buffer(layouts.item(self.configuration))
        m.submodules.leaving = leaving = Buffer(layouts.spike_write(self.configuration))
        connect(m, flipped(self.item), arriving.i)
        words, tag = fire.words, fetch.tag
        if self.configuration.probabilistic:
            unit, tag = attach(m, self, layer, fire.words, fetch.tag, fetch.item.p.random)
            words = unit.o
        connect(m, words, leaving.i)
        connect(m, leaving.o, flipped(self.words))
        none_waiting = ~arriving.o.valid
        if self.configuration.pairs:
            connect(m, arriving.o, fetch.item)
        else:
            items = fifo.SyncFIFOBuffered(width=layouts.item(self.configuration).size, depth=_ITEMS)
            m.submodules.items = items
            connect_queue(m, arriving.o, items, fetch.item)
            none_waiting = none_waiting & (items.level == 0)
        connect(m, flipped(self.request), fetch.request)
        connect(m, fetch.fetched, gather.fetched)
        connect(m, gather.event, lanes.event)
        connect(m, lanes.sums, fire.sums)
        m.d.comb += [fetch.word.eq(self.word), fetch.word_valid.eq(self.word_valid)]

        m.submodules.tags = tags = fifo.SyncFIFOBuffered(width=layouts.tag(self.configuration).size, depth=_TAGS)
        connect_queue(m, tag, tags, fire.tag)

        # A sum counts from its tag until its last word leaves the fire unit; an offered word, until it is taken.
        under_way = Signal(range(2 * _TAGS))
        m.d.sync += under_way.eq(under_way + (fetch.tag.valid & fetch.tag.ready) - fire.done)
        nothing_left = none_waiting & ~fetch.working & (under_way == 0) & fire.empty & ~leaving.o.valid
        if self.configuration.probabilistic:
            nothing_left = nothing_left & unit.idle
        m.d.comb += self.idle.eq(nothing_left)

        # In registers first, and counted a cycle later.
        waiting, adding, idle, port = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            waiting.eq(lanes.event.valid & ~lanes.event.ready),
            adding.eq(lanes.event.valid & lanes.event.ready & lanes.event.p.add),
            idle.eq(self.idle),
            port.eq(fetch.request.valid & ~fetch.request.ready),
        ]
        m.d.comb += [self.activity.word.eq(fetch.read_word), self.activity.zero_word.eq(fetch.zero_word)]
        m.d.comb += layouts.classify(self.activity, adding, waiting, idle, port)
        return m
