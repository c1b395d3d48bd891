import numpy as np
import pytest

from driver.fake import FakeCore, FakeDevice, FakeTransport, plain_crc, unharmed
from golden.networks import random_network
from polyspike.driver import Link, open_link
from polyspike.driver.ports import RECEIVE_BYTES
from polyspike.spec import NAMED, SMALL, TINY, Configuration, DeviceError, LinkError
from polyspike.spec.link import Command, crc, request
from polyspike.spec.memory import Space

#: Tiny, with an unpacker.
CONFIGURATION = TINY.replace(name="unpacking", unpacker=1)


def make(*, seconds: float = 0.0, on_request=unharmed, on_response=unharmed, **options) -> tuple[Link, FakeTransport]:
    """Return a link to a fake device whose runs take so long. Faults start after the session has."""
    device = FakeDevice(FakeCore(random_network(1, 1), CONFIGURATION), seconds)
    transport = FakeTransport(device)
    link = Link(transport, frame_words=TINY.frame_words, rx_bytes=TINY.rx_bytes, **options)
    link.finish()
    transport.requests = device.responses = 0
    transport.on_request, device.on_response = on_request, on_response
    return link, transport


def words(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 1 << 64, count, dtype=np.uint64)


def test_crc_is_the_one_of_ethernet() -> None:
    assert crc(b"123456789") == plain_crc(b"123456789") == 0xCBF43926


def test_a_request_frame_byte_by_byte() -> None:
    frame = request(0x0908, 7, Command.WRITE, Space.WEIGHTS, 0x0102, 0x03040506, 1, bytes(range(8)))
    assert frame[:14] == bytes([0x5A, 8, 9, 7, 1, 1, 2, 1, 6, 5, 4, 3, 1, 0])
    assert frame[14:22] == bytes(range(8))
    assert int.from_bytes(frame[22:], "little") == plain_crc(frame[1:22])


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 200])
def test_words_go_out_and_come_back_in_frames(count: int) -> None:
    link, transport = make()
    data = words(count)
    link.write(Space.SPIKES, 0, 10, data)
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][10 : 10 + count], data)
    np.testing.assert_array_equal(link.read(Space.SPIKES, 10, count), data)
    assert transport.requests == 2 * -(-count // TINY.frame_words)
    assert max((command[4] for command in transport.device.commands), default=0) <= TINY.frame_words


def flip(byte: int):
    def damage(data: bytes) -> bytes:
        damaged = bytearray(data)
        damaged[byte] ^= 0x10
        return bytes(damaged)

    return damage


DAMAGE = {
    "dropped": lambda data: b"",
    "first byte flipped": flip(0),
    "header flipped": flip(2),
    "payload flipped": flip(-9),
    "CRC flipped": flip(-1),
    "byte lost": lambda data: data[:3] + data[4:],
    "cut off": lambda data: data[:-6],
    "noise before": lambda data: b"\x00\xa5\x5a\xff" + data,
    "repeated": lambda data: data + data,
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("side", ["on_request", "on_response"])
def test_many_frames_damaged(side: str, kind: str) -> None:
    link, transport = make(**{side: lambda number, data: DAMAGE[kind](data) if number % 7 in (1, 5) else data})
    data = words(150)
    link.write(Space.SPIKES, 0, 0, data)
    np.testing.assert_array_equal(link.read(Space.SPIKES, 0, 150), data)
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][:150], data)
    if kind != "noise before" and (side, kind) != ("on_request", "repeated"):
        assert sum(link.faults.values()) >= 4


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("side", ["on_request", "on_response"])
@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("seconds", [0.0, 1.7])
def test_a_run_is_executed_exactly_once(side: str, kind: str, at: int, seconds: float) -> None:
    link, transport = make(seconds=seconds, **{side: lambda number, data: DAMAGE[kind](data) if number == at else data})
    transport.core.memories[Space.PROGRAM][:3] = np.array([1, 2, 3], np.uint64) << np.uint64(8)
    link.run(0, 1)
    link.run(1, 2)
    link.finish()
    assert transport.core.runs == [1, 2, 3]
    assert transport.now() >= 2 * seconds


def test_requests_go_out_before_answers_are_there() -> None:
    link, transport = make(seconds=5.0)
    link.run(0, 1)
    link.run(1, 1)
    link.write(Space.SPIKES, 0, 500, words(16), ahead=True)
    later = link.read_later(Space.REGISTERS, 2, 1)
    # All that has not taken any time.
    assert transport.now() < 0.1
    assert [each[0] for each in transport.device.commands] == [Command.READ, Command.RUN]
    assert later().tolist() == [0]
    assert 10.0 <= transport.now() < 16.0
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][500:516], words(16))


def test_a_write_ahead_does_not_wait_for_a_run() -> None:
    link, transport = make(seconds=5.0)
    link.run(0, 1)
    link.write(Space.SPIKES, 0, 500, words(16), ahead=True)
    link.write(Space.SPIKES, 0, 600, words(16))
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][500:516], words(16))
    assert not transport.core.memories[Space.SPIKES][600:616].any()
    link.finish()
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][600:616], words(16))


def test_neither_side_is_overrun() -> None:
    """A device that is busy for long gets no more than it has room for, and is asked for no more than we have."""
    link, transport = make(seconds=0.4)
    rng = np.random.default_rng(4)
    expected = np.zeros(CONFIGURATION.spike_depth, np.uint64)
    pending = []
    for _ in range(300):
        kind, address, count = rng.integers(0, 8), int(rng.integers(0, 900)), int(rng.integers(1, 100))
        if kind == 0:
            link.run(0, 1)
        elif kind < 4:
            data = rng.integers(0, 1 << 64, count, dtype=np.uint64)
            link.write(Space.SPIKES, 0, address, data, ahead=bool(kind % 2))
            expected[address : address + count] = data
        else:
            pending.append((link.read_later(Space.SPIKES, address, count), expected[address : address + count].copy()))
        assert sum(len(data) for _, data in transport.to_host) <= RECEIVE_BYTES
    for later, data in pending:
        np.testing.assert_array_equal(later(), data)
    assert transport.device.overruns == 0
    assert not link.faults


@pytest.mark.parametrize("side", ["on_request", "on_response"])
def test_what_an_unanswered_read_reads_is_not_changed(side: str) -> None:
    """Every answer or request is lost once, so READs are executed again after everything that was sent behind them."""
    lost = set()

    def lose(number: int, data: bytes) -> bytes:
        if data in lost:
            return data
        lost.add(data)
        return b""

    link, transport = make(**{side: lose})
    for value in range(1, 6):
        data = np.full(20, value, np.uint64)
        link.write(Space.SPIKES, 0, 100, data)
        later = link.read_later(Space.SPIKES, 100, 20)
        # One that shares a word with it, and one that shares none.
        link.write(Space.SPIKES, 0, 119, words(3))
        np.testing.assert_array_equal(later(), data)
        later = link.read_later(Space.SPIKES, 100, 10)
        link.write(Space.SPIKES, 0, 110, words(3))
        np.testing.assert_array_equal(later(), data[:10])
        counters = link.read_later(Space.REGISTERS, 2, 8)
        link.write(Space.REGISTERS, 0, 10, np.ones(1, np.uint64))
        assert counters().tolist()[0] == 100 * (value - 1)
        transport.core.memories[Space.PROGRAM][value] = 1 << 8
        later = link.read_later(Space.SPIKES, 0, 64)
        before = transport.core.memories[Space.SPIKES][:64].copy()
        for _ in range(value):
            link.run(value, 1)
        np.testing.assert_array_equal(later(), before)


def test_a_dead_line_is_given_up_with_what_happened() -> None:
    link, transport = make(on_response=lambda number, data: b"")
    with pytest.raises(LinkError, match=r"READ of 2 words from SPIKES at 5: no sound answer after 4.*silence: 4"):
        link.read(Space.SPIKES, 5, 2)
    link, transport = make(on_response=lambda number, data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(LinkError, match=r"WRITE of 2 words to WEIGHTS at 5, column mask 0x1.*damaged answer: 4"):
        link.write(Space.WEIGHTS, 1, 5, words(2))
        link.finish()
    assert transport.requests == 4


def test_a_silent_line_says_what_to_check() -> None:
    class Silent(FakeTransport):
        def write(self, data: bytes) -> None:
            pass

    transport = Silent(FakeDevice(FakeCore(random_network(1, 1), CONFIGURATION)))
    with pytest.raises(LinkError, match=r"OPEN of session 0x00ff: .*no answer at all: is the board powered"):
        Link(transport, frame_words=16, rx_bytes=512, session=0xFF)
    assert transport.now() < 4.1
    assert transport.falls == 3

    link, transport = make()
    link.read(Space.SPIKES, 0, 1)
    transport.on_request = lambda number, data: b""
    with pytest.raises(LinkError, match=r"READ of 1 words .*the device fell silent: check its cable"):
        link.read(Space.SPIKES, 0, 1)


def test_a_broken_link_names_the_first_cause() -> None:
    link, transport = make()
    transport.device.restart()
    first = "the device restarted or was opened by someone else; open it and load the program again"
    with pytest.raises(LinkError, match=rf"^{first}$"):
        link.read(Space.SPIKES, 0, 1)
    uses = (
        lambda: link.read(Space.SPIKES, 0, 1),
        lambda: link.write(Space.SPIKES, 0, 0, words(1)),
        lambda: link.read_later(Space.SPIKES, 0, 1),
        lambda: link.run(0, 1),
        lambda: link.finish(),
    )
    for use in uses:
        with pytest.raises(LinkError, match=rf"link is broken, open the device again; it failed before: {first}"):
            use()


def test_an_answer_for_later_is_not_there_after_a_failure() -> None:
    link, _ = make(on_response=lambda number, data: b"")
    later = link.read_later(Space.SPIKES, 0, 1)
    with pytest.raises(LinkError, match=r"no sound answer"):
        link.finish()
    with pytest.raises(LinkError, match=r"it failed before: READ of 1 words"):
        later()


def test_the_cable_is_pulled() -> None:
    link, transport = make()

    def pulled(*arguments: object) -> bytes:
        raise LinkError("the port is gone")

    transport.read = pulled
    with pytest.raises(LinkError, match=r"^the port is gone$"):
        link.read(Space.SPIKES, 0, 1)
    with pytest.raises(LinkError, match=r"failed before: the port is gone"):
        link.run(0, 1)


@pytest.mark.parametrize("seconds", [0.0, 30.0, 59.0])
def test_silence_during_a_run_is_no_fault(seconds: float) -> None:
    link, transport = make(seconds=seconds)
    link.run(0, 1)
    link.read(Space.SPIKES, 0, 1)
    assert seconds <= transport.now() <= seconds + 0.1
    assert transport.core.runs == []


def test_a_run_that_does_not_end_is_given_up_in_time() -> None:
    link, transport = make(seconds=1000.0, run_timeout=20.0)
    link.run(0, 1)
    start = transport.now()
    with pytest.raises(LinkError, match=r"READ of 1 words .*the device fell silent"):
        link.read(Space.SPIKES, 0, 1)
    assert 20.0 <= transport.now() - start <= 20.1


def test_a_lost_answer_after_a_run_costs_little() -> None:
    lost = []

    def lose(number: int, data: bytes) -> bytes:
        if len(data) > 9 and not lost:
            lost.append(data)
            return b""
        return data

    link, transport = make(seconds=0.1, on_response=lose)
    link.run(0, 1)
    link.read(Space.SPIKES, 0, 1)
    assert lost
    assert transport.now() < 1.5


def test_noise_without_end_is_no_hang() -> None:
    class Babbling(FakeTransport):
        def read(self, most: int, timeout: float) -> bytes:
            self.time += 0.01
            return b"\xa5" * most

    transport = Babbling(FakeDevice(FakeCore(random_network(1, 1), CONFIGURATION)))
    with pytest.raises(LinkError, match=r"OPEN .*what came was no answer to it"):
        Link(transport, frame_words=16, rx_bytes=512)
    assert transport.now() < 5.1


def test_sessions_do_not_take_answers_of_others() -> None:
    """What an earlier host left behind on the line and in the device does not reach a new one."""
    _, transport = make(seconds=3.0)
    device = transport.device
    left = [
        request(device.session, 1, Command.RUN, count=1),
        request(device.session, 2, Command.READ, Space.SPIKES, count=16),
        request(device.session, 3, Command.READ, Space.SPIKES, count=16)[:11],
    ]
    for frame in left:
        transport.write(frame)
    link = Link(transport, frame_words=16, rx_bytes=512)
    data = words(16)
    link.write(Space.SPIKES, 0, 0, data)
    np.testing.assert_array_equal(link.read(Space.SPIKES, 0, 16), data)


def test_an_older_link_finds_itself_closed() -> None:
    link, transport = make()
    newer = Link(transport, frame_words=16, rx_bytes=512)
    with pytest.raises(LinkError, match=r"restarted or was opened by someone else"):
        link.write(Space.SPIKES, 0, 0, words(2))
        link.finish()
    newer.finish()
    assert not transport.core.memories[Space.SPIKES].any()


def test_a_refused_request_is_named() -> None:
    link, transport = make()
    with pytest.raises(LinkError, match="refused READ of 1 words from WEIGHTS at 0"):
        link.read(Space.WEIGHTS, 0, 1)
    link, transport = make()
    with pytest.raises(LinkError, match="refused WRITE of 2 words to SPIKES at 1023"):
        link.write(Space.SPIKES, 0, 1023, words(2))
        link.finish()
    assert transport.requests == 1
    link, transport = make()
    with pytest.raises(LinkError, match=r"refused WRITE_AHEAD of 2 words to PROGRAM at 3"):
        link.write(Space.PROGRAM, 0, 3, words(2), ahead=True)
        link.finish()


def test_sequence_numbers_wrap() -> None:
    link, _ = make()
    for value in range(600):
        link.write(Space.SPIKES, 0, value, words(1) + np.uint64(value))
    np.testing.assert_array_equal(link.read(Space.SPIKES, 0, 600), words(1) + np.arange(600, dtype=np.uint64))
    assert not link.faults


def test_traffic_counts_every_byte() -> None:
    link, _ = make()
    before = link.traffic()
    link.write(Space.SPIKES, 0, 0, words(20))
    link.read(Space.SPIKES, 0, 4)
    after = link.traffic()
    assert after.sent - before.sent == 20 * 8 + 3 * 18
    assert after.received - before.received == 4 * 8 + 3 * 9
    assert after.bytes_per_second is None


def test_a_device_names_its_configuration() -> None:
    def transport(configuration: Configuration) -> FakeTransport:
        return FakeTransport(FakeDevice(FakeCore(random_network(1, 1), configuration)))

    for configuration in NAMED.values():
        link, found = open_link(transport(configuration))
        assert found is configuration
        data = words(300)
        link.write(Space.SPIKES, 0, 0, data)
        np.testing.assert_array_equal(link.read(Space.SPIKES, 0, 300), data)
    assert open_link(transport(CONFIGURATION), CONFIGURATION)[1] is CONFIGURATION
    with pytest.raises(DeviceError, match=rf"unknown configuration .digest {CONFIGURATION.digest}.; give the conf"):
        open_link(transport(CONFIGURATION))
    with pytest.raises(DeviceError, match=r"has configuration 'small' .*but configuration 'tiny' .*was asked for"):
        open_link(transport(SMALL), TINY)
    other = transport(TINY)
    other.core.memories[Space.REGISTERS][0] = 7
    with pytest.raises(DeviceError, match=r"no polyspike device: register MAGIC reads 0x0000000000000007"):
        open_link(other)
