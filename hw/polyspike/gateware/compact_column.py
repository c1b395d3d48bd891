"""A column for small devices: what lanes do each for themselves elsewhere is done one lane after the other."""

import itertools
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS

from . import layouts
from .compact_fire import CompactFire
from .compact_gather import CompactGather
from .compact_lanes import CompactLanes
from .fetch import Walk


class CompactColumn(wiring.Component):
    """Eight output channels of one position at a time; does what `Column` does with a fraction of its logic.

    Rate: one event a cycle while words are fetched in time and sums are fired in time; maxima, raw sums and the counts
    of elementwise words are an event each.

    Members
    -------
    Those of `Column`, and

    hold : ``Out(1)``, high while nobody else may read from the port, because the word at its output is still in use
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "layer": In(layouts.layer(configuration)),
                "item": In(stream.Signature(layouts.item(configuration))),
                "request": Out(stream.Signature(layouts.address_bits(configuration))),
                "word": In(WORD_BITS),
                "hold": Out(1),
                "words": Out(stream.Signature(layouts.spike_write(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_weights": In(1),
                "write_params": In(1),
                "idle": Out(1),
                "activity": Out(layouts.ACTIVITY),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        m.submodules.walk = walk = Walk(self.configuration)
        m.submodules.gather = gather = CompactGather(self.configuration)
        m.submodules.lanes = lanes = CompactLanes(self.configuration)
        m.submodules.fire = fire = CompactFire(self.configuration)
        layer = flipped(self.layer)
        connect(m, layer, walk.layer)
        connect(m, layer.fire, fire.fire)
        for index, each in enumerate(layouts.passes(layer)):
            connect(m, each.weights, lanes.weights[index])
        for block, enable in ((lanes, self.write_weights), (fire, self.write_params)):
            m.d.comb += [block.write.eq(self.write), block.write_enable.eq(enable)]

        connect(m, flipped(self.item), walk.item)
        connect(m, walk.step, gather.step)
        connect(m, gather.request, flipped(self.request))
        connect(m, gather.event, lanes.event)
        connect(m, lanes.sums, fire.sums)
        connect(m, fire.words, flipped(self.words))
        m.d.comb += [gather.word.eq(self.word), self.hold.eq(gather.hold)]

        # The sum that is being fired has its tag at the fire unit, the one that is being added up behind it.
        tags = [fire.tag, stream.Signature(layouts.tag(self.configuration)).create(path=("tag",)), walk.tag]
        for into, source in itertools.pairwise(tags):
            m.d.comb += source.ready.eq(~into.valid | into.ready)
            with m.If(source.ready):
                m.d.sync += [into.valid.eq(source.valid), into.payload.eq(source.payload)]
        m.d.comb += self.idle.eq(~walk.working & ~tags[0].valid & ~tags[1].valid)

        waiting = gather.event.valid & ~gather.event.ready
        adding = gather.event.valid & gather.event.ready & gather.event.p.add
        nothing = ~waiting & ~adding
        port = gather.request.valid & ~gather.request.ready
        m.d.sync += [
            self.activity.event.eq(adding),
            self.activity.stall_drain.eq(waiting),
            self.activity.stall_idle.eq(nothing & self.idle),
            self.activity.stall_port.eq(nothing & ~self.idle & port),
            self.activity.stall_fetch.eq(nothing & ~self.idle & ~port),
            self.activity.word.eq(gather.request.valid & gather.request.ready),
            self.activity.zero_word.eq(gather.zero_word),
        ]
        return m
