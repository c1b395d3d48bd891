"""What benches of single blocks simulate: configurations that are small, and blocks one behind the other."""

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from gateware.adding import configuration
from gateware.sequencing import configuration as sequencing
from polyspike.gateware import layouts
from polyspike.gateware.buffer import Buffer
from polyspike.gateware.fire import Fire
from polyspike.gateware.gather import Gather
from polyspike.gateware.lanes import Lanes
from polyspike.gateware.spike_memory import SpikeMemory
from polyspike.spec import TINY, Configuration
from polyspike.spec.instructions import FIRE as FIRE_FORMAT
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS

#: Lanes and fire unit of pairs of positions.
PAIRS = configuration(8, pairs=1)
#: Two of the multipliers are made of look-up tables.
LANES = configuration(8).replace(fabric_lanes=2)
#: With 16 lanes wide words are for half of a tile, as with 8 lanes narrow ones are for two.
POOLING = configuration(16)
FIRE = configuration(8).replace(fire_width=2)
COMPACT_FIRE = configuration(8).replace(compact=1)
SPIKE_WRITER = configuration(8).replace(fire_width=2)
#: Two columns share port 0 with the host, two share port 1.
MEMORY = configuration(8).replace(columns=4, read_ports=2)
SEQUENCER = sequencing(4)
#: A ring that fills up.
LINK = TINY.replace(frame_words=8, rx_bytes=128)
COMPACT_MEMORY = configuration(8).replace(compact=1)


class Pooling(wiring.Component):
    """Gather and lanes, joined as in a column; the members are theirs."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "weights": In(layouts.descriptor(WEIGHTS, configuration)).array(PASS_SLOTS),
                "fetched": In(stream.Signature(layouts.fetched(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "sums": Out(stream.Signature(layouts.sums(configuration))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gather = gather = Gather(self.configuration)
        m.submodules.events = events = Buffer(layouts.event(self.configuration))
        m.submodules.lanes = lanes = Lanes(self.configuration)
        for block in (gather, lanes):
            for mine, its in zip(self.weights, block.weights, strict=True):
                connect(m, flipped(mine), its)
        connect(m, flipped(self.fetched), gather.fetched)
        connect(m, gather.event, events.i)
        connect(m, events.o, lanes.event)
        connect(m, lanes.sums, flipped(self.sums))
        m.d.comb += [lanes.write.eq(self.write), lanes.write_enable.eq(self.write_enable)]
        return m


class SpikeWriter(wiring.Component):
    """A fire unit and the spike memory behind it; the members are theirs."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "fire": In(layouts.descriptor(FIRE_FORMAT, configuration)),
                "sums": In(stream.Signature(layouts.sums(configuration))),
                "tag": In(stream.Signature(layouts.tag(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "done": Out(1),
                "empty": Out(1),
                "host_write": In(stream.Signature(layouts.spike_write(configuration))),
                "host_read": In(stream.Signature(layouts.address_bits(configuration))),
                "host_word": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fire = fire = Fire(self.configuration)
        m.submodules.memory = memory = SpikeMemory(self.configuration)
        connect(m, flipped(self.fire), fire.fire)
        connect(m, flipped(self.sums), fire.sums)
        connect(m, flipped(self.tag), fire.tag)
        connect(m, fire.words, memory.write0)
        connect(m, flipped(self.host_write), memory.host_write)
        connect(m, flipped(self.host_read), memory.host_read)
        m.d.comb += [
            fire.write.eq(self.write),
            fire.write_enable.eq(self.write_enable),
            self.done.eq(fire.done),
            self.empty.eq(fire.empty),
            self.host_word.eq(memory.host_word),
        ]
        return m
