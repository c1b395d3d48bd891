"""The spike memory of a compact configuration."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS

from . import layouts


class CompactMemory(wiring.Component):
    """Words of spike counts, shared by one column and the host, with no register around the memory.

    A word that was read stays until the next read. While the column holds its word, the host has to wait; otherwise
    they take turns. The column's writes come first: it never writes in two cycles in a row.

    Rate: one write and one read a cycle, a read of the host in 3. Latency: 1 cycle from a read's transfer to its word,
    none for the host, whose read is transferred when its word is there; a word can be read in the cycle after its
    write.

    Members
    -------
    write0 : ``In(stream.Signature(spike_write(configuration)))``, the column's
    read0 : ``In(stream.Signature(address_bits))``, the column's
    word0 : ``Out(64)``, the word the column has read
    hold : ``In(1)``, the column still needs its word; it asks for no other one then
    host_write : ``In(stream.Signature(spike_write(configuration)))``
    host_read : ``In(stream.Signature(address_bits))``
    host_word : ``Out(64)``; host_word_valid : ``Out(1)``
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        write = stream.Signature(layouts.spike_write(configuration))
        read = stream.Signature(layouts.address_bits(configuration))
        super().__init__(
            {
                "write0": In(write),
                "read0": In(read),
                "word0": Out(WORD_BITS),
                "hold": In(1),
                "host_write": In(write),
                "host_read": In(read),
                "host_word": Out(WORD_BITS),
                "host_word_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        m.submodules.words = words = memory.Memory(shape=WORD_BITS, depth=self.configuration.spike_depth, init=[])
        write, read = words.write_port(granularity=WORD_BITS // 2), words.read_port()
        item = Signal(layouts.spike_write(self.configuration))
        m.d.comb += [
            self.write0.ready.eq(1),
            self.host_write.ready.eq(~self.write0.valid),
            item.eq(Mux(self.write0.valid, self.write0.p, self.host_write.p)),
            write.addr.eq(item.address),
            write.data.eq(item.data),
            write.en.eq(Mux(self.write0.valid | self.host_write.valid, item.mask, 0)),
        ]

        # Whose turn it is is decided a cycle ahead, and the host hears of its turn a cycle later: whether the column
        # still holds its word is known late.
        turn, served = Signal(), Signal()
        m.d.comb += [
            served.eq(turn & ~self.hold),
            self.read0.ready.eq(~turn),
            read.addr.eq(Mux(turn, self.host_read.p, self.read0.p)),
            read.en.eq(Mux(turn, ~self.hold, self.read0.valid)),
            self.word0.eq(read.data),
            self.host_word.eq(read.data),
            self.host_word_valid.eq(self.host_read.ready),
        ]
        m.d.sync += [
            self.host_read.ready.eq(served),
            turn.eq(self.host_read.valid & ~served & ~self.host_read.ready),
        ]
        return m
