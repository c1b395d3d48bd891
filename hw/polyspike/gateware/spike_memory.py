"""The spike memory: one writer at a time, several read ports."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS

from . import layouts
from .arbiter import RoundRobin

#: Cycles from a read's transfer to its word.
READ_LATENCY = 4


class SpikeMemory(wiring.Component):
    """Words of spike counts, shared by all columns and the host.

    Each read port has a copy of the memory of its own, and serves columns `port`, `port + read_ports`, ...; port 0
    serves the host too. Writes go to all copies. Columns that ask for the same word in the same cycle are all served at
    once: those that work on different tiles of one position see the same events, so they ask in step, and the port's
    bandwidth counts once for all of them. The host always waits for its turn, and serves nobody else with it.

    Rate: one write and, on each port, one address a cycle. Latency: `READ_LATENCY` cycles from a read's transfer
    to its word; a word can be read in the cycle after its write.

    Members
    -------
    write0, write1, ... : ``In(stream.Signature(spike_write(configuration)))``, one a column
    read0, read1, ... : ``In(stream.Signature(address_bits))``, one a column
    word0, word1, ... : ``Out(64)``, the word a column has read, with word0_valid, word1_valid, ... : ``Out(1)``;
        registers of each column's own, halfway between the memory and the column
    host_write : ``In(stream.Signature(spike_write(configuration)))``
    host_read : ``In(stream.Signature(address_bits))``
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
            members[f"word{column}_valid"] = Out(1)
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
        # Registers on both sides of the memory.
        write_item, write_valid = Signal.like(writing.o.p.item), Signal()
        m.d.sync += [write_item.eq(writing.o.p.item), write_valid.eq(writing.o.valid)]

        for port in range(ports):
            copy = memory.Memory(shape=WORD_BITS, depth=self.configuration.spike_depth, init=[])
            m.submodules[f"copy{port}"] = copy
            write = copy.write_port(granularity=WORD_BITS // 2)
            m.d.comb += [
                write.addr.eq(write_item.address),
                write.data.eq(write_item.data),
                write.en.eq(write_item.mask & write_valid.replicate(2)),
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
                m.d.comb += [asked.payload.eq(reader.payload), asked.valid.eq(reader.valid)]
                # Addresses are compared two by two while it is looked up whose turn it is, not one after the other.
                served = [asked.ready]
                if reader is not self.host_read:
                    served += [
                        getattr(reading, f"i{place}").ready & other.valid & (reader.payload == other.payload)
                        for place, other in enumerate(readers)
                        if place != index and other is not self.host_read
                    ]
                m.d.comb += reader.ready.eq(Cat(served).any())
            read = copy.read_port()
            word = Signal(WORD_BITS, name=f"word_of_port{port}")
            m.d.comb += reading.o.ready.eq(1)
            address = Signal.like(reading.o.p.item, name=f"address_of_port{port}")
            m.d.sync += [address.eq(reading.o.p.item), word.eq(read.data)]
            m.d.comb += read.addr.eq(address)
            for index, reader in enumerate(readers):
                on_its_way = reader.valid & reader.ready
                for stage in range(READ_LATENCY - 1):
                    before, on_its_way = on_its_way, Signal(name=f"on_its_way{stage}_{index}")
                    m.d.sync += on_its_way.eq(before)
                name = "host_word" if reader is self.host_read else f"word{mine[index]}"
                m.d.sync += getattr(self, f"{name}_valid").eq(on_its_way)
                with m.If(on_its_way):
                    m.d.sync += getattr(self, name).eq(word)
        return m
