"""A column for small devices: what lanes do each for themselves elsewhere is done one lane after the other."""

import itertools
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out, connect, flipped

from polyspike.spec import Configuration

from . import layouts
from .compact_fire import CompactFire
from .compact_gather import CompactGather
from .compact_lanes import CompactLanes
from .fetch import Walk
from .probabilistic import attach


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
        super().__init__(layouts.column(configuration) | {"hold": Out(1)})

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
        words, entering = fire.words, walk.tag
        if self.configuration.probabilistic:
            unit, entering = attach(m, self, layer, fire.words, walk.tag, walk.item.p.random)
            words = unit.o
        connect(m, words, flipped(self.words))
        m.d.comb += [gather.word.eq(self.word), self.hold.eq(gather.hold)]

        # The sum that is being fired has its tag at the fire unit, the one that is being added up behind it.
        tags = [fire.tag, stream.Signature(layouts.tag(self.configuration)).create(path=("tag",)), entering]
        for into, source in itertools.pairwise(tags):
            m.d.comb += source.ready.eq(~into.valid | into.ready)
            with m.If(source.ready):
                m.d.sync += [into.valid.eq(source.valid), into.payload.eq(source.payload)]
        idle = ~walk.working & ~tags[0].valid & ~tags[1].valid
        m.d.comb += self.idle.eq(idle & unit.idle if self.configuration.probabilistic else idle)

        waiting = gather.event.valid & ~gather.event.ready
        adding = gather.event.valid & gather.event.ready & gather.event.p.add
        port = gather.request.valid & ~gather.request.ready
        m.d.sync += [
            *layouts.classify(self.activity, adding, waiting, self.idle, port),
            self.activity.word.eq(gather.request.valid & gather.request.ready),
            self.activity.zero_word.eq(gather.zero_word),
        ]
        return m
