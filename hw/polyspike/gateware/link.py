"""The device end of the byte link: frames in, commands out, answers back. The frames are `polyspike.spec.link`'s."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from polyspike.spec import Configuration
from polyspike.spec import link as frames
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.link import Command, Status
from polyspike.spec.memory import READABLE, Space, depth

WORD_BYTES = WORD_BITS // 8


class RequestHeader(data.Struct):
    """A request after its sync byte, as `polyspike.spec.link.REQUEST_HEADER` lays it out."""

    sequence: 8
    command: 8
    space: 8
    mask: 16
    address: 32
    count: 16


class ResponseHeader(data.Struct):
    """A response after its sync byte, as `polyspike.spec.link.RESPONSE_HEADER` lays it out."""

    sequence: 8
    status: 8
    count: 16


def request_layout(configuration: Configuration) -> data.StructLayout:
    """Return the layout of one access to one word: what `Link.request` carries.

    `write` tells writes from reads, `space` is a `polyspike.spec.memory.Space`, `mask` has bit c set for column c,
    `address` counts words and always exists in its space, `data` is the word of a write and means nothing in a read.
    """
    largest = max(depth(configuration, space) for space in Space)
    return data.StructLayout(
        {
            "write": 1,
            "space": bits_for(max(Space)),
            "mask": configuration.columns,
            "address": max(ADDRESS_BITS, bits_for(largest - 1)),
            "data": WORD_BITS,
        }
    )


#: What `Link.run` carries: the first instruction and how many; count 0 runs until HALT.
RUN_LAYOUT = data.StructLayout({"first": ADDRESS_BITS, "count": 16})


class FrameDecoder(wiring.Component):
    """Finds request frames in a byte stream and passes on those whose CRC is right.

    The decoder hunts for the sync byte, takes header, payload and CRC, and hunts again if the CRC is wrong or a WRITE
    announces more than `frame_words` words. Damage therefore costs at most one largest frame of bytes before the
    decoder hunts again (`polyspike.spec.link.flush` is that many bytes that start no frame).

    Rate: 1 byte a cycle in, 1 word every 8 cycles out. Latency: a frame is offered 2 cycles after its last byte was
    taken, its first word 8 cycles later. No byte is taken while a frame is offered.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes
    frame : ``Out(stream.Signature(RequestHeader))``, headers of good frames; a frame must be taken after its words
    words : ``Out(stream.Signature(64))``, the `count` words of the WRITE that is offered
    """

    def __init__(self, configuration: Configuration) -> None:
        self._frame_words = configuration.frame_words
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "frame": Out(stream.Signature(RequestHeader)),
                "words": Out(stream.Signature(WORD_BITS)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        # Bytes rather than words, so that the buffer of a small configuration is a single block RAM.
        m.submodules.buffer = buffer = Memory(shape=8, depth=self._frame_words * WORD_BYTES, init=[])
        write, read = buffer.write_port(), buffer.read_port()

        header = Signal(RequestHeader)
        header_next = Signal(RequestHeader)
        index = Signal(range(self._frame_words * WORD_BYTES + 1))  # bytes of the current part of the frame so far
        payload_bytes = Signal(16 + bits_for(WORD_BYTES - 1))
        word = Signal(data.ArrayLayout(8, WORD_BYTES))
        filled = Signal(range(WORD_BYTES + 1))

        m.d.comb += [
            header_next.eq(Cat(header.as_value()[8:], self.rx.payload)),
            payload_bytes.eq(header.count * WORD_BYTES),
            crc.data.eq(self.rx.payload),
            write.addr.eq(index),
            write.data.eq(self.rx.payload),
            read.addr.eq(index),
            self.frame.payload.eq(header),
            self.words.payload.eq(word),
            self.words.valid.eq(filled == WORD_BYTES),
        ]

        with m.FSM():
            with m.State("HUNT"):
                m.d.comb += [self.rx.ready.eq(1), crc.start.eq(1)]
                with m.If(self.rx.valid & (self.rx.payload == frames.SYNC_REQUEST)):
                    m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [header.eq(header_next), index.eq(index + 1)]
                    with m.If(index == frames.REQUEST_HEADER.size - 1):
                        m.d.sync += index.eq(0)
                        m.next = "CRC"
                        with m.If((header_next.command == Command.WRITE) & (header_next.count != 0)):
                            m.next = "PAYLOAD"
                            with m.If(header_next.count > self._frame_words):
                                m.next = "HUNT"

            with m.State("PAYLOAD"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.comb += [crc.valid.eq(1), write.en.eq(1)]
                    m.d.sync += index.eq(index + 1)
                    with m.If(index + 1 == payload_bytes):
                        m.d.sync += index.eq(0)
                        m.next = "CRC"

            with m.State("CRC"):
                m.d.comb += self.rx.ready.eq(1)
                with m.If(self.rx.valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == frames.CRC.size - 1):
                        m.d.sync += index.eq(0)
                        m.next = "CHECK"

            with m.State("CHECK"):
                m.next = "HUNT"
                with m.If(crc.match_detected):
                    m.next = "OFFER"

            with m.State("OFFER"):
                m.d.comb += self.frame.valid.eq(1)
                with m.If((filled != WORD_BYTES) | self.words.ready):
                    m.d.sync += filled.eq(0)
                    with m.If((header.command == Command.WRITE) & (index != payload_bytes)):
                        m.d.comb += read.addr.eq(index + 1)  # the port answers a cycle later
                        m.d.sync += [
                            index.eq(index + 1),
                            word.eq(Cat(word.as_value()[8:], read.data)),
                            filled.eq(Mux(filled == WORD_BYTES, 0, filled) + 1),
                        ]
                with m.If(self.frame.ready):
                    m.d.sync += index.eq(0)
                    m.next = "HUNT"

        return m


class FrameEncoder(wiring.Component):
    """Turns response headers and words into frames.

    Rate: 1 byte a cycle within a part of the frame, so 1 word every 8 cycles. Latency: the sync byte is offered 1 cycle
    after the header is; 1 cycle without a byte precedes the CRC, as it does the next frame's sync byte.

    Members
    -------
    header : ``In(stream.Signature(ResponseHeader))``, one item a frame
    words : ``In(stream.Signature(64))``, `count` items a frame
    tx : ``Out(stream.Signature(8))``, bytes
    """

    header: In(stream.Signature(ResponseHeader))
    words: In(stream.Signature(WORD_BITS))
    tx: Out(stream.Signature(8))

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()

        pending = Signal(data.ArrayLayout(8, WORD_BYTES))  # bytes to send, the next one first
        left = Signal(range(WORD_BYTES + 1))
        transfer = self.tx.valid & self.tx.ready
        free = (left == 0) | ((left == 1) & self.tx.ready)
        words_left = Signal(16)

        m.d.comb += [
            self.tx.payload.eq(pending[0]),
            self.tx.valid.eq(left != 0),
            crc.data.eq(pending[0]),
        ]
        with m.If(transfer):
            m.d.sync += [pending.eq(pending.as_value() >> 8), left.eq(left - 1)]

        with m.FSM():
            with m.State("IDLE"), m.If(self.header.valid & (left == 0)):
                m.d.sync += [pending[0].eq(frames.SYNC_RESPONSE), left.eq(1)]
                m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += [crc.start.eq(1), self.header.ready.eq(free)]
                with m.If(free):
                    m.d.sync += [
                        pending.eq(self.header.payload),
                        left.eq(frames.RESPONSE_HEADER.size),
                        words_left.eq(self.header.payload.count),
                    ]
                    m.next = "WORDS"

            with m.State("WORDS"):
                m.d.comb += crc.valid.eq(transfer)
                with m.If(words_left != 0):
                    m.d.comb += self.words.ready.eq(free)
                    with m.If(free & self.words.valid):
                        m.d.sync += [pending.eq(self.words.payload), left.eq(WORD_BYTES), words_left.eq(words_left - 1)]
                with m.Elif(left == 0):
                    m.d.sync += [pending.eq(crc.crc), left.eq(frames.CRC.size)]
                    m.next = "IDLE"

        return m


class Link(wiring.Component):
    """Executes request frames, one after the other, and answers them.

    A request is refused, and nothing done, if its command is unknown, if words it names do not exist (a count of 0
    counts as 1 here), or if it reads from a space that cannot be read or more than `frame_words` words. What a RUN
    names are instructions. Mask bits of columns that do not exist are ignored.

    A host that missed an answer repeats its request, with the same sequence number. Doing a WRITE or READ again does
    no harm, but a RUN may have overwritten its own input: a RUN that follows a RUN of the same sequence number is
    answered OK and not run. The first frame after reset has no predecessor. A host that opens a device that was in use
    starts with a frame that is not a RUN.

    The next frame is decoded when this one has been executed and its answer's header is on its way.

    Latency where nobody stalls: from a request's last byte taken to its answer's first byte offered 5 cycles, in a
    WRITE of n > 0 words 8 n + 4 (also if it is refused); to `run` offered 3 cycles, and from `done` to the answer 2.
    Rate: `request` 1 word every 8 cycles in a WRITE, 1 word a cycle in a READ; bytes as `FrameDecoder` and
    `FrameEncoder`.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes of requests
    tx : ``Out(stream.Signature(8))``, bytes of responses
    request : ``Out(stream.Signature(request_layout(configuration)))``, one item a word
    response : ``In(stream.Signature(64))``, one item a read request, in the order of the requests
    run : ``Out(stream.Signature(RUN_LAYOUT))``, one item a RUN
    done : ``In(1)``, pulses for one cycle when the run has ended; a cycle or more after `run` was taken
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "request": Out(stream.Signature(request_layout(configuration))),
                "response": In(stream.Signature(WORD_BITS)),
                "run": Out(stream.Signature(RUN_LAYOUT)),
                "done": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.decoder = decoder = FrameDecoder(self._configuration)
        m.submodules.encoder = encoder = FrameEncoder()
        wiring.connect(m, wiring.flipped(self.rx), decoder.rx)
        wiring.connect(m, wiring.flipped(self.response), encoder.words)
        wiring.connect(m, encoder.tx, wiring.flipped(self.tx))

        header = decoder.frame.payload
        answer = encoder.header.payload
        index = Signal(range(self._configuration.frame_words + 1))  # words requested so far
        limit = Signal(range(max(depth(self._configuration, space) for space in Space) + 1))
        permitted = Signal()
        accepted = Signal()
        # The request before this one, if it was a RUN.
        ran = Signal()
        ran_sequence = Signal(8)

        with m.Switch(header.command):
            with m.Case(Command.RUN):
                m.d.comb += [limit.eq(depth(self._configuration, Space.PROGRAM)), permitted.eq(1)]
            with m.Case(Command.WRITE, Command.READ), m.Switch(header.space):
                for space in Space:
                    with m.Case(space):
                        m.d.comb += [
                            limit.eq(depth(self._configuration, space)),
                            permitted.eq(
                                (header.command == Command.WRITE)
                                | ((space in READABLE) & (header.count <= self._configuration.frame_words))
                            ),
                        ]

        m.d.comb += [
            self.request.payload.write.eq(header.command == Command.WRITE),
            self.request.payload.space.eq(header.space),
            self.request.payload.mask.eq(header.mask),
            self.request.payload.address.eq(header.address + index),
            self.request.payload.data.eq(decoder.words.payload),
            self.run.payload.first.eq(header.address),
            self.run.payload.count.eq(header.count),
            answer.sequence.eq(header.sequence),
            answer.status.eq(Mux(accepted, Status.OK, Status.REFUSED)),
            answer.count.eq(Mux(accepted & (header.command == Command.READ), header.count, 0)),
        ]

        with m.FSM():
            with m.State("CHECK"):
                m.d.sync += [
                    accepted.eq(permitted & (header.address + header.count + (header.count == 0) <= limit)),
                    index.eq(0),
                ]
                with m.If(decoder.frame.valid):
                    m.next = "EXECUTE"

            with m.State("EXECUTE"):
                m.next = "ANSWER"
                with m.Switch(header.command):
                    with m.Case(Command.WRITE):
                        # The words of a refused WRITE are taken all the same, and dropped.
                        m.d.comb += [
                            self.request.valid.eq(decoder.words.valid & accepted),
                            decoder.words.ready.eq(self.request.ready | ~accepted),
                        ]
                        with m.If(header.count != 0):
                            m.next = "EXECUTE"
                            with m.If(decoder.words.valid & decoder.words.ready):
                                m.d.sync += index.eq(index + 1)
                                with m.If(index + 1 == header.count):
                                    m.next = "ANSWER"
                    with m.Case(Command.RUN):
                        with m.If(accepted & ~(ran & (ran_sequence == header.sequence))):
                            m.d.comb += self.run.valid.eq(1)
                            m.next = "EXECUTE"
                            with m.If(self.run.ready):
                                m.next = "WAIT"

            with m.State("WAIT"), m.If(self.done):
                m.next = "ANSWER"

            with m.State("ANSWER"):
                m.d.comb += encoder.header.valid.eq(1)
                with m.If(encoder.header.ready):
                    m.d.sync += [
                        ran.eq(accepted & (header.command == Command.RUN)),
                        ran_sequence.eq(header.sequence),
                    ]
                    with m.If(answer.count != 0):
                        m.next = "READ"
                    with m.Else():
                        m.d.comb += decoder.frame.ready.eq(1)
                        m.next = "CHECK"

            with m.State("READ"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index + 1 == header.count):
                        m.d.comb += decoder.frame.ready.eq(1)
                        m.next = "CHECK"

        return m
