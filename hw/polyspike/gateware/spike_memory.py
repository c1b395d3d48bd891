"""The spike memory: one writer at a time, several read ports."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS

from . import layouts
from .arbiter import RoundRobin


class SpikeMemory(wiring.Component):
    """Words of spike counts, shared by all columns and the host.

    Each read port has a copy of the memory of its own, and serves columns `port`, `port + read_ports`, ...; port 0
    serves the host too. Writes go to all copies. Columns that ask for the same word in the same cycle are all served at
    once: those that work on different tiles of one position see the same events, so they ask in step, and the port's
    bandwidth counts once for all of them.

    Rate: one write and, on each port, one address a cycle. Latency: 2 cycles from a read's transfer to its word
    (`fetch.READ_LATENCY`), in a serial configuration 1, and there the word stays until the next read; a word can be read
    in the cycle after its write.

    Members
    -------
    write0, write1, ... : ``In(stream.Signature(spike_write(configuration)))``, one a column
    read0, read1, ... : ``In(stream.Signature(address_bits))``, one a column
    word0, word1, ... : ``Out(64)``, the word a column has read
    host_write : ``In(stream.Signature(spike_write(configuration)))``
    host_read : ``In(stream.Signature(address_bits))``
    hold : ``In(1)``, where the configuration is serial: the column still needs its word, so the host has to wait
    host_word : ``Out(64)``; host_word_valid : ``Out(1)``
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        members: dict[str, object] = {}
        address = layouts.address_bits(configuration)
        for column in range(configuration.columns):
            members[f"write{column}"] = In(stream.Signature(layouts.spike_write(configuration)))
            members[f"read{column}"] = In(stream.Signature(address))
            members[f"word{column}"] = Out(WORD_BITS)
        if configuration.serial:
            members["hold"] = In(1)
        members["host_write"] = In(stream.Signature(layouts.spike_write(configuration)))
        members["host_read"] = In(stream.Signature(address))
        members["host_word"] = Out(WORD_BITS)
        members["host_word_valid"] = Out(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration = self.configuration
        columns, ports = configuration.columns, configuration.read_ports
        writers = [getattr(self, f"write{column}") for column in range(columns)] + [self.host_write]
        m.submodules.write_arbiter = writing = RoundRobin(layouts.spike_write(configuration), len(writers))
        for index, writer in enumerate(writers):
            connect(m, flipped(writer), getattr(writing, f"i{index}"))
        m.d.comb += writing.o.ready.eq(1)

        for port in range(ports):
            copy = memory.Memory(shape=WORD_BITS, depth=self.configuration.spike_depth, init=[])
            m.submodules[f"copy{port}"] = copy
            write = copy.write_port(granularity=WORD_BITS // 2)
            m.d.comb += [
                write.addr.eq(writing.o.p.item.address),
                write.data.eq(writing.o.p.item.data),
                write.en.eq(writing.o.p.item.mask & writing.o.valid.replicate(2)),
            ]
            mine = range(port, columns, ports)
            readers = [getattr(self, f"read{column}") for column in mine]
            if port == 0:
                readers.append(self.host_read)
            m.submodules[f"read_arbiter{port}"] = reading = RoundRobin(
                layouts.address_bits(configuration), len(readers)
            )
            for index, reader in enumerate(readers):
                asked = getattr(reading, f"i{index}")
                allowed = ~self.hold if configuration.serial and reader is self.host_read else 1
                same = reading.o.valid & (reader.payload == reading.o.p.item)
                m.d.comb += [
                    asked.payload.eq(reader.payload),
                    asked.valid.eq(reader.valid & allowed),
                    reader.ready.eq((asked.ready | same) & allowed),
                ]
            read = copy.read_port()
            word = Signal(WORD_BITS, name=f"word_of_port{port}")
            m.d.comb += [reading.o.ready.eq(1), read.addr.eq(reading.o.p.item)]
            if configuration.serial:
                m.d.comb += [read.en.eq(reading.o.valid), word.eq(read.data)]
            else:
                m.d.sync += word.eq(read.data)
            m.d.comb += [getattr(self, f"word{column}").eq(word) for column in mine]
            if port == 0:
                on_its_way = self.host_read.valid & self.host_read.ready
                if not configuration.serial:
                    granted, on_its_way = on_its_way, Signal()
                    m.d.sync += on_its_way.eq(granted)
                m.d.sync += self.host_word_valid.eq(on_its_way)
                m.d.comb += self.host_word.eq(word)
        return m
