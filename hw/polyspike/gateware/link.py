"""The device end of the byte link: frames in, commands out, answers back. The frames are `polyspike.spec.link`'s."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, ValueLike
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from polyspike.spec import Configuration
from polyspike.spec import link as frames
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.link import Command, Status
from polyspike.spec.memory import READABLE, Space, depth

WORD_BYTES = WORD_BITS // 8

#: Spaces that WRITE_AHEAD goes to.
_AHEAD = (Space.SPIKES, Space.INPUT)


class RequestHeader(data.Struct):
    """A request after its sync byte, as `polyspike.spec.link.REQUEST_HEADER` lays it out."""

    session: 16
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


class Answer(data.Struct):
    """What `FrameEncoder` makes a frame of. With `opens` its one word is the session's number."""

    header: ResponseHeader
    session: 16
    opens: 1


def request_layout(configuration: Configuration) -> data.StructLayout:
    """Return the layout of one access to one word: what `Link.request` carries.

    `write` tells writes from reads, `space` is a `polyspike.spec.memory.Space`, `mask` has bit c set for column c,
    `address` counts words and always exists in its space, `data` is the word of a write and means nothing in a read.
    In writes to INPUT, `first` marks the first word of a payload; its `mask` is the number of words to write, its
    `address` that of the first of them, and the words that follow mean nothing but their `data`.
    """
    return data.StructLayout(
        {
            "write": 1,
            "first": 1,
            "space": bits_for(max(Space)),
            "mask": 16 if configuration.unpacker else configuration.columns,
            "address": ADDRESS_BITS,
            "data": WORD_BITS,
        }
    )


#: What `Link.run` carries: the first instruction and how many; count 0 runs until HALT.
RUN_LAYOUT = data.StructLayout({"first": ADDRESS_BITS, "count": 16})


class FrameDecoder(wiring.Component):
    """Finds request frames in a byte stream and keeps those whose CRC is right until they are executed.

    The decoder hunts for the sync byte, takes header, payload and CRC, and hunts again if the CRC is wrong or a WRITE
    announces more than `frame_words` words. Damage therefore costs at most one largest frame of bytes before the
    decoder hunts again (`polyspike.spec.link.flush` is that many bytes that start no frame).

    Header and payload go into a ring of `rx_bytes` bytes as they come, where they are given up again if the frame turns
    out to be unsound. Sync byte and CRC take no place, so the frames that a host may send before it has their answers
    always fit. Otherwise no byte is taken while the ring is full.

    Rate: 1 byte a cycle, with a cycle's pause behind each frame. Latency: the first byte of a frame is offered 4 cycles
    after its last one was taken.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes
    content : ``Out(stream.Signature(8))``, headers and payloads of sound frames, one behind the other
    fault : ``Out(1)``, high for a cycle when a frame is dropped
    """

    def __init__(self, configuration: Configuration) -> None:
        self._frame_words = configuration.frame_words
        self._bytes = configuration.rx_bytes
        super().__init__({"rx": In(stream.Signature(8)), "content": Out(stream.Signature(8)), "fault": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        m.submodules.ring = ring = memory.Memory(shape=8, depth=self._bytes, init=[])
        write, read = ring.write_port(), ring.read_port()

        # The bytes from `taken` to `sound` wait to be offered, those from `sound` to `end` are of the present frame.
        taken, sound, end = (Signal(range(self._bytes), name=name) for name in ("taken", "sound", "end"))
        behind = Signal.like(end)
        # Whether a byte is taken comes from registers. Room is told a cycle ahead, after the byte that comes meanwhile.
        room, checking = Signal(init=1), Signal()
        fills, framed = Signal(), Signal()  # where a byte goes: into the ring, into the sum
        left = Signal(range(WORD_BYTES * self._frame_words + 1))  # bytes of the present part of the frame
        last = Signal()  # left == 1
        writes = Signal()
        low = Signal(8)
        count = Cat(low, self.rx.payload)  # when the header's last byte is there
        byte = self.rx.valid & self.rx.ready
        m.d.comb += [
            behind.eq(end + 1),
            self.rx.ready.eq(~checking & (room | ~fills)),
            crc.valid.eq(byte & framed),
            crc.data.eq(self.rx.payload),
            write.en.eq(byte & fills),
            write.addr.eq(end),
            write.data.eq(self.rx.payload),
        ]
        m.d.sync += [room.eq(behind != taken), checking.eq(0)]
        with m.If(byte):
            m.d.sync += [left.eq(left - 1), last.eq(left == 2)]
        with m.If(write.en):
            m.d.sync += [end.eq(behind), room.eq((end + 2)[: len(end)] != taken)]

        def expect(size: ValueLike) -> None:
            m.d.sync += [left.eq(size), last.eq(0)]

        def give_up() -> None:
            m.d.comb += self.fault.eq(1)
            m.d.sync += [end.eq(sound), fills.eq(0), framed.eq(0)]
            m.next = "HUNT"

        with m.FSM():
            with m.State("HUNT"):
                m.d.comb += crc.start.eq(1)
                expect(frames.REQUEST_HEADER.size)
                with m.If(self.rx.valid & (self.rx.payload == frames.SYNC_REQUEST)):
                    m.d.sync += [fills.eq(1), framed.eq(1)]
                    m.next = "HEADER"

            with m.State("HEADER"), m.If(byte):
                m.d.sync += low.eq(self.rx.payload)
                with m.If(left == frames.REQUEST_HEADER.size - _offset("command")):
                    m.d.sync += writes.eq((self.rx.payload == Command.WRITE) | (self.rx.payload == Command.WRITE_AHEAD))
                with m.If(last):
                    with m.If(writes & count.any()):
                        expect(count * WORD_BYTES)
                        m.next = "PAYLOAD"
                        with m.If(count > self._frame_words):
                            give_up()
                    with m.Else():
                        expect(frames.CRC.size)
                        m.d.sync += fills.eq(0)
                        m.next = "CRC"

            with m.State("PAYLOAD"), m.If(byte & last):
                expect(frames.CRC.size)
                m.d.sync += fills.eq(0)
                m.next = "CRC"

            with m.State("CRC"), m.If(byte & last):
                m.d.sync += checking.eq(1)
                m.next = "CHECK"

            with m.State("CHECK"):
                m.d.sync += framed.eq(0)
                m.next = "HUNT"
                with m.If(crc.match_detected):
                    m.d.sync += sound.eq(end)
                with m.Else():
                    give_up()

        # A byte that was read stays in the memory's output register, and its place is free. A block RAM is slow to
        # answer, so what it has read goes through a register before anybody decides by it.
        fetched = Signal()
        move = ~self.content.valid | self.content.ready
        m.d.comb += [read.addr.eq(taken), read.en.eq(~fetched | move)]
        with m.If(read.en):
            m.d.sync += fetched.eq(taken != sound)
            with m.If(taken != sound):
                m.d.sync += taken.eq(taken + 1)
        with m.If(move):
            m.d.sync += [self.content.valid.eq(fetched), self.content.payload.eq(read.data)]

        return m


def _offset(field: str) -> int:
    """Return which byte of a request's header a field starts with."""
    return int(data.Layout.cast(RequestHeader)[field].offset) // 8


class FrameEncoder(wiring.Component):
    """Turns answers and words into frames.

    Rate: 1 byte a cycle within a part of the frame; a word is taken when its last byte goes. Latency: the sync byte is
    offered 1 cycle after the answer is, which is taken 4 cycles later (12 with `opens`); 2 cycles without a byte
    precede the CRC.

    Members
    -------
    answer : ``In(stream.Signature(Answer))``, one item a frame
    words : ``In(stream.Signature(64))``, `count` items a frame, none with `opens`
    tx : ``Out(stream.Signature(8))``, bytes
    """

    def __init__(self, configuration: Configuration) -> None:
        self._frame_words = configuration.frame_words
        super().__init__(
            {
                "answer": In(stream.Signature(Answer)),
                "words": In(stream.Signature(WORD_BITS)),
                "tx": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()

        answer = self.answer.p
        size = frames.RESPONSE_HEADER.size
        index = Signal(range(size + WORD_BYTES))  # bytes of the present part of the frame so far
        words_left = Signal(range(self._frame_words + 1))
        free = ~self.tx.valid | self.tx.ready
        load = Signal()
        byte = Signal(8)
        start = Signal()

        m.d.comb += [
            crc.start.eq(start),
            crc.valid.eq(self.tx.valid & self.tx.ready & ~start),
            crc.data.eq(self.tx.payload),
        ]
        with m.If(self.tx.ready):
            m.d.sync += self.tx.valid.eq(0)
        with m.If(load):
            m.d.sync += [self.tx.payload.eq(byte), self.tx.valid.eq(1)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [start.eq(1), byte.eq(frames.SYNC_RESPONSE), load.eq(self.answer.valid & free)]
                m.d.sync += index.eq(0)
                with m.If(load):
                    m.next = "HEADER"

            with m.State("HEADER"):
                # The sync byte is not part of the sum.
                m.d.comb += start.eq(index == 0)
                content = Cat(answer.header, answer.session, Const(0, WORD_BITS - len(answer.session)))
                m.d.comb += [byte.eq(content.word_select(index, 8)), load.eq(free)]
                with m.If(load):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == Mux(answer.opens, size + WORD_BYTES, size) - 1):
                        m.d.comb += self.answer.ready.eq(1)
                        m.d.sync += [index.eq(0), words_left.eq(Mux(answer.opens, 0, answer.header.count))]
                        m.next = "WORDS"

            with m.State("WORDS"):
                m.d.comb += byte.eq(self.words.payload.word_select(index[:3], 8))
                with m.If(words_left != 0):
                    m.d.comb += load.eq(self.words.valid & free)
                    with m.If(load):
                        m.d.sync += index.eq(index + 1)
                        with m.If(index == WORD_BYTES - 1):
                            m.d.comb += self.words.ready.eq(1)
                            m.d.sync += [index.eq(0), words_left.eq(words_left - 1)]
                with m.Elif(~self.tx.valid):
                    m.next = "CRC"

            with m.State("CRC"):
                # Fed with its own lowest byte, the sum moves down by that byte.
                m.d.comb += [byte.eq(crc.crc[:8]), load.eq(free), crc.valid.eq(load), crc.data.eq(~crc.crc[:8])]
                with m.If(load):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == frames.CRC.size - 1):
                        m.next = "IDLE"

        return m


class Link(wiring.Component):
    """Executes request frames in the order of their numbers, and answers them, as `polyspike.spec.link` says.

    A request is refused, and nothing done, if its command is unknown, if words it names do not exist (a count of 0
    counts as 1 here), if it reads from a space that cannot be read or more than `frame_words` words, or if it writes
    ahead to another space than SPIKES and INPUT. What a RUN names are instructions; what a write to INPUT names are
    the words that are to be written. An OPEN of session 0 is refused. Mask bits of columns that do not exist are
    ignored. A repetition of what was refused is refused again.

    Frames are received while others are executed or wait for the end of a run. OPEN, CLOSED and REFUSED answers and
    those to repetitions, but of a READ, wait for nothing but the answers before them.

    Latency where nobody stalls and nothing runs: from a request's last byte taken to its answer's first byte offered
    22 cycles, in a WRITE of n > 0 words 9 n more (also if it is not executed), in a RUN 1 more; to `run` offered 21
    cycles. Rate: `request` 1 word every 9 cycles in a WRITE, 1 word a cycle in a READ; bytes as `FrameDecoder` and
    `FrameEncoder`.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes of requests
    tx : ``Out(stream.Signature(8))``, bytes of responses
    request : ``Out(stream.Signature(request_layout(configuration)))``, one item a word
    response : ``In(stream.Signature(64))``, one item a read request, in the order of the requests
    run : ``Out(stream.Signature(RUN_LAYOUT))``, one item a RUN
    busy : ``In(1)``, high from the cycle after `run` was taken until the run has ended
    fault : ``Out(1)``, high for a cycle when an unsound frame was dropped or a request refused
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
                "busy": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.decoder = decoder = FrameDecoder(self._configuration)
        m.submodules.encoder = encoder = FrameEncoder(self._configuration)
        wiring.connect(m, wiring.flipped(self.rx), decoder.rx)
        wiring.connect(m, wiring.flipped(self.response), encoder.words)
        wiring.connect(m, encoder.tx, wiring.flipped(self.tx))

        header = Signal(RequestHeader)
        word = Signal(WORD_BITS)
        index = Signal(range(frames.REQUEST_HEADER.size))  # bytes of the present header or word so far
        takes = Signal(init=1)  # bytes are wanted: in HEADER, and in WORDS until a word is whole
        first = Signal()  # no word of the frame was executed yet
        session = Signal(16)
        expected = Signal(8)

        opens, reads, runs = (header.command == command for command in (Command.OPEN, Command.READ, Command.RUN))
        ahead = header.command == Command.WRITE_AHEAD
        writes = (header.command == Command.WRITE) | ahead

        # What exists has short addresses, and what is executed or dropped word by word has a short count.
        depths = {space: depth(self._configuration, space) for space in Space}
        address = header.address[: bits_for(max(depths.values()) - 1)]
        count = header.count[: bits_for(self._configuration.frame_words)]
        size = header.count
        if self._configuration.unpacker:
            size = Mux(header.space == Space.INPUT, header.mask, header.count)

        # What SUM, PERMIT and JUDGE work out, one after the other.
        end = Signal(len(address) + 2)
        far = Signal()
        distance = Signal(8)
        present = Signal()
        permitted = Signal()
        refused = Signal()
        status = Signal(Status)
        execute = Signal()
        silent = Signal()

        m.d.comb += [
            self.request.p.write.eq(~reads),
            self.request.p.first.eq(first),
            self.request.p.space.eq(header.space),
            self.request.p.mask.eq(header.mask),
            self.request.p.address.eq(address),
            self.request.p.data.eq(word),
            self.run.p.first.eq(address),
            self.run.p.count.eq(header.count),
            encoder.answer.p.header.sequence.eq(header.sequence),
            encoder.answer.p.header.status.eq(status),
            encoder.answer.p.header.count.eq(Mux(opens, status == Status.OK, Mux(reads & execute, count, 0))),
            encoder.answer.p.session.eq(session),
            encoder.answer.p.opens.eq(opens & (status == Status.OK)),
        ]
        m.d.comb += decoder.content.ready.eq(takes)
        m.d.sync += self.fault.eq(decoder.fault | refused)

        with m.FSM():
            with m.State("HEADER"):
                m.d.sync += first.eq(1)
                with m.If(decoder.content.valid):
                    m.d.sync += [header.eq(Cat(header.as_value()[8:], decoder.content.payload)), index.eq(index + 1)]
                    with m.If(index == frames.REQUEST_HEADER.size - 1):
                        m.d.sync += takes.eq(0)
                        m.next = "SUM"

            with m.State("SUM"):
                m.d.sync += [
                    end.eq(address + size[: len(address) + 1] + (size == 0)),
                    far.eq(Cat(header.address[len(address) :], size[len(address) + 1 :]).any()),
                    distance.eq(header.sequence - expected),
                    present.eq(header.session == session),
                    index.eq(0),
                ]
                m.next = "PERMIT"

            with m.State("PERMIT"):
                exists = {words: ~far & (end <= words) for words in set(depths.values())}
                m.d.sync += permitted.eq(0)
                with m.If(runs):
                    m.d.sync += permitted.eq(exists[depths[Space.PROGRAM]])
                with m.Else(), m.Switch(header.space):
                    for space in Space:
                        with m.Case(space):
                            commands = header.command == Command.WRITE
                            if space in _AHEAD:
                                commands |= ahead
                            if space in READABLE:
                                commands |= reads & (header.count <= self._configuration.frame_words)
                            m.d.sync += permitted.eq(exists[depths[space]] & commands)
                m.next = "JUDGE"

            with m.State("JUDGE"):
                named = header.session.any()
                m.d.sync += [status.eq(Status.OK), execute.eq(0), silent.eq(0)]
                with m.If(opens):
                    m.d.comb += refused.eq(~named)
                    with m.If(named & ~present):
                        m.d.sync += [session.eq(header.session), expected.eq(header.sequence + 1)]
                with m.Elif(~(named & present)):
                    m.d.sync += status.eq(Status.CLOSED)
                with m.Elif((distance != 0) & (distance <= 128)):
                    m.d.sync += silent.eq(1)
                with m.Else():
                    m.d.comb += refused.eq(~permitted)
                    m.d.sync += execute.eq(permitted & ((distance == 0) | reads))
                    with m.If(distance == 0):
                        m.d.sync += expected.eq(header.sequence + 1)
                with m.If(refused):
                    m.d.sync += status.eq(Status.REFUSED)
                m.next = "WAIT"

            with m.State("WAIT"):
                with m.If(~(execute & ~ahead & self.busy)):
                    m.next = "ANSWER"
                    with m.If(writes & count.any()):
                        m.d.sync += takes.eq(1)
                        m.next = "WORDS"
                    with m.Elif(runs & execute):
                        m.next = "RUN"

            with m.State("WORDS"):
                # The words of a WRITE that is not executed are taken all the same, and dropped.
                m.d.comb += self.request.valid.eq(~takes & execute)
                with m.If(takes & decoder.content.valid):
                    m.d.sync += [word.eq(Cat(word[8:], decoder.content.payload)), index.eq(index + 1)]
                    m.d.sync += takes.eq(index != WORD_BYTES - 1)
                with m.If(~takes & (self.request.ready | ~execute)):
                    m.d.sync += [index.eq(0), first.eq(0), address.eq(address + 1), count.eq(count - 1), takes.eq(1)]
                    with m.If(count == 1):
                        m.d.sync += takes.eq(0)
                        m.next = "ANSWER"

            with m.State("RUN"):
                m.d.comb += self.run.valid.eq(1)
                with m.If(self.run.ready):
                    m.next = "ANSWER"

            with m.State("ANSWER"):
                m.d.comb += encoder.answer.valid.eq(~silent)
                m.d.sync += index.eq(0)
                with m.If(silent | encoder.answer.ready):
                    m.d.sync += takes.eq(1)
                    m.next = "HEADER"
                    with m.If(reads & execute & count.any()):
                        m.d.sync += takes.eq(0)
                        m.next = "READ"

            with m.State("READ"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.d.sync += [address.eq(address + 1), count.eq(count - 1)]
                    with m.If(count == 1):
                        m.d.sync += takes.eq(1)
                        m.next = "HEADER"

        return m
