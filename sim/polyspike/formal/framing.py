"""The link's decoder: it accepts a frame exactly when the CRC of what was sent is right, and always finds the next.

What it should do is said by a receiver of its own, made after the description of the frames: where one begins, which
bytes it has, and the CRC-32 over them bit by bit.
"""

import struct
from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Cat, Const, Mux, Signal, Value

from polyspike.gateware import link
from polyspike.spec import Configuration
from polyspike.spec import link as frames
from polyspike.spec.link import Command

from .properties import Inside, Properties
from .streams import assume_rules

#: The polynomial of CRC-32, the coefficient of the lowest power in the highest bit.
_POLYNOMIAL = 0xEDB88320


def _step(register: int, byte: int) -> int:
    """Return the CRC register after another byte."""
    register ^= byte
    for _ in range(8):
        register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
    return register


def _step_signals(register: Any, byte: Any) -> Value:
    """Return the CRC register after another byte, in hardware."""
    bits = list(register)
    for index in range(8):
        feedback = bits[0] ^ byte[index]
        above = [*bits[1:], Const(0)]
        bits = [each ^ feedback if _POLYNOMIAL >> at & 1 else each for at, each in enumerate(above)]
    return Cat(bits)


def decoder(configuration: Configuration, *, delivers: bool) -> Properties:
    """Return properties of `FrameDecoder`, for any bytes at any time.

    Either that it accepts what is right, or, where `delivers`, that it hands over what it accepts, whatever that is:
    both together are too much for one proof.
    """
    p = Properties()
    m = p.m
    block = link.FrameDecoder(configuration)
    inside = p.block(block)
    assume_rules(p, block.rx)
    header, words = frames.REQUEST_HEADER.size, configuration.frame_words
    command, crc_size = struct.calcsize("<HB"), frames.CRC.size
    byte, taken = block.rx.p, block.rx.valid & block.rx.ready

    # The receiver: how many bytes of a frame have come (the sync byte not counted), how many stand before its CRC
    # (known from the end of the header on), their sum, and whether all bytes of the CRC were right so far.
    busy, judging, writes, right = (Signal(name=name) for name in ("busy", "judging", "writing", "right"))
    number, length = (Signal(range(header + 8 * words + crc_size + 1), name=name) for name in ("number", "length"))
    low, register = Signal(8, name="low_byte"), Signal(32, name="sum")
    count = Cat(low, byte)
    in_header = busy & (number < header)
    in_payload = busy & (number >= header) & (number < length)
    in_crc = busy & (number >= header) & (number >= length)
    announces = taken & in_header & (number == header - 1) & writes
    too_long = announces & (count > words)
    m.d.sync += judging.eq(0)
    with m.If(taken & ~busy & (byte == frames.SYNC_REQUEST)):
        m.d.sync += [busy.eq(1), number.eq(0), length.eq(header), register.eq(0xFFFFFFFF), right.eq(1)]
    with m.If(taken & busy):
        m.d.sync += [number.eq(number + 1), low.eq(byte)]
        with m.If(in_crc):
            # It is sent inverted, the lowest byte first.
            m.d.sync += [register.eq(register >> 8), right.eq(right & (byte == ~register[:8]))]
            with m.If(number == length + crc_size - 1):
                m.d.sync += [busy.eq(0), judging.eq(1)]
        with m.Else():
            m.d.sync += register.eq(_step_signals(register, byte))
        with m.If(in_header & (number == command)):
            m.d.sync += writes.eq((byte == Command.WRITE) | (byte == Command.WRITE_AHEAD))
        with m.If(announces):
            m.d.sync += length.eq(header + 8 * count)
        with m.If(too_long):
            m.d.sync += busy.eq(0)

    # What the decoder does with a frame.
    sound, end = inside["sound"], inside["end"]
    accepts = judging & ~block.fault if delivers else judging & right
    p.always("drops_what_is_too_long", judging | (block.fault == too_long))
    p.always("keeps_what_it_accepts", sound == Mux(p.past(accepts), p.past(end), p.past(sound)))

    # It goes through the frame with the receiver.
    p.always("hunts_between_frames", inside.state("HUNT") == (~busy & ~judging))
    p.always("takes_the_header", inside.state("HEADER") == in_header)
    p.always("takes_the_payload", inside.state("PAYLOAD") == in_payload)
    p.always("takes_the_crc", inside.state("CRC") == in_crc)
    p.always("checks_at_the_end", inside.state("CHECK") == judging)
    # What it knows of that in registers of their own.
    p.always("knows_that_it_checks", inside["checking"] == judging)
    p.always("knows_what_goes_into_the_ring", inside["fills"] == (in_header | in_payload))
    p.always("knows_what_is_summed", inside["framed"] == (busy | judging))
    p.always("knows_the_last_byte", ~busy | (inside["last"] == (inside["left"] == 1)))
    until = Mux(in_header, header, Mux(in_payload, length, length + crc_size))
    p.always("knows_what_is_left", ~busy | ((inside["left"] == until - number) & (number < until)))
    p.always("knows_the_command", ~busy | (number <= command) | (inside["writes"] == writes))
    p.always("knows_the_byte_before", ~in_header | (number == 0) | (inside["low"] == low))
    p.always("length_is_of_whole_words", ~(busy | judging) | ((length >= header) & (length <= header + 8 * words)))
    p.always("header_comes_first", ~in_header | (length == header))
    p.always("judges_after_the_crc", ~judging | (number == length + crc_size))
    if delivers:
        _deliver(
            p,
            configuration,
            block,
            inside,
            accepts,
            stored=Mux(in_crc | judging, length, Mux(busy, number, 0)),
            stores=taken & (in_header | in_payload),
            judging=judging,
        )
        return p

    # Its sum is the receiver's. Behind the frame's bytes it adds up the CRC too, and the two differ by a constant as
    # long as that is right, and afterwards in one of as many bytes as have come of it.
    sums = ~inside["crc"].crc
    p.always("adds_up_the_frame", ~(in_header | in_payload) | ((sums == register) & right))
    p.always("drops_what_is_wrong", ~judging | (block.fault == ~right))
    remains = 0
    for passed in range(crc_size + 1):
        here = (in_crc | judging) & (number == length + passed)
        difference = sums ^ register ^ remains
        p.always("sum_moves_out", ~here | (register[32 - 8 * passed :] == 0))
        p.always("notices_a_wrong_byte", ~here | Mux(right, difference == 0, difference[32 - 8 * passed :].any()))
        remains = _step(remains, 0xFF)

    # After as many bytes that begin no frame as the host sends to end one, it hunts, whatever was before.
    longest = len(frames.flush(words))
    quiet = Signal(range(longest + 1))
    with m.If(taken):
        m.d.sync += quiet.eq(Mux(byte != 0, 0, Mux(quiet == longest, quiet, quiet + 1)))
    p.always("a_flush_ends_every_frame", (quiet != longest) | ~busy)
    p.always("is_quiet_since_the_sync_byte", ~busy | (quiet <= number))
    return p


def _deliver(
    p: Properties,
    configuration: Configuration,
    block: Any,
    inside: Inside,
    accepts: Any,
    *,
    stored: Any,
    stores: Any,
    judging: Any,
) -> None:
    """State that sound frames come out as they came in, and nothing else does.

    `accepts` is high when a frame is, `stores` when a byte of a header or payload is taken; `stored` are the bytes of
    the present frame so far.
    """
    m, size = p.m, configuration.rx_bytes
    first, sound, end = (inside[name] for name in ("taken", "sound", "end"))
    byte = block.rx.p

    # One byte is followed, any one.
    def distance(to: Any, since: Any) -> Any:
        return (to - since)[: len(first)]

    fetched, offered = inside["fetched"], block.content.valid
    delivers = block.content.valid & block.content.ready
    pending = Signal(range(size + 2))
    m.d.sync += pending.eq(pending + Mux(accepts, stored, 0) - delivers)
    kept, at, ahead = Signal(8), Signal.like(end), Signal(range(size + 2))
    chosen, following, accepted = Signal(), Signal(), Signal()
    waiting_bytes = distance(end, first) + fetched + offered
    with m.If(following & delivers):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += following.eq(0)
    with m.If(following & accepts):
        m.d.sync += accepted.eq(1)
    with m.If(stores & ~chosen & AnySeq(1)):
        m.d.sync += [chosen.eq(1), following.eq(1), accepted.eq(0), kept.eq(byte), at.eq(end)]
        m.d.sync += ahead.eq(waiting_bytes - delivers)
    with m.If(block.fault & ~accepted):
        m.d.sync += [chosen.eq(0), following.eq(0)]
    leaves = following & delivers & (ahead == 0)
    p.always("delivers_in_order", ~leaves | (accepted & (block.content.p == kept)))
    p.always("delivers_what_was_accepted", ~delivers | (pending != 0))
    p.always("keeps_what_was_accepted", pending == distance(sound, first) + fetched + offered)
    p.always("stores_the_frame", distance(end, sound) == stored)
    p.always("ring_is_in_order", distance(sound, first) + stored < size)
    # Room is told a cycle ahead.
    following_end = Mux(inside["write"].en, end + 2, end + 1)[: len(end)]
    p.always("room_is_told", inside["room"] == ~p.past(following_end == first))
    p.always("room_is_there", ~inside["room"] | (distance(end, first) != size - 1))
    in_ring = ahead >= fetched + offered
    row = inside.row("ring", at)
    p.always("follows_one", ~(following | accepted) | chosen)
    p.always("followed_waits", ~following | (ahead < waiting_bytes))
    p.always("followed_is_in_the_ring", ~(following & in_ring) | (ahead == distance(at, first) + fetched + offered))
    p.always("ring_keeps_it", ~(following & in_ring) | (row == kept))
    p.always("ring_hands_it_over", ~(following & fetched & (ahead == offered)) | (inside["read"].data == kept))
    p.always("offers_it", ~(following & offered & (ahead == 0)) | (block.content.p == kept))
    p.always("knows_what_is_accepted", ~following | (accepted == (ahead < pending)))
    p.always("gives_up_on_what_is_not", following | ~chosen | accepted)

    # It never gets stuck: with the sound frames taken there is room for another one, and they are offered.
    drained = first == sound
    p.always("takes_a_frame_when_drained", ~(drained & p.past(drained)) | block.rx.ready | judging)
    p.always("offers_what_is_sound", ~p.past(first != sound) | fetched | offered)
    p.always("offers_what_was_fetched", ~p.past(fetched) | offered)
