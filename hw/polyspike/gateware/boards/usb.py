"""The link over a USB port that is wired to the FPGA: a serial device (CDC-ACM) at full speed, with LUNA's gateware."""

import types
import warnings
from typing import Any, ClassVar

from amaranth.hdl import DomainRenamer, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, io, stream, wiring
from amaranth.lib.fifo import AsyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import BuildError

from ..core import Core
from ..serial_core import GLIMPSE, HALF_SECOND, Stretch, beats
from .board import light
from .clocks import Clock, Ecp5Clock
from .families import Ecp5Board

#: A byte for the host, and whether it ends a packet.
PACKET_BYTE = data.StructLayout({"data": 8, "last": 1})

#: USB's clocks, in Hz: `usb_io` samples the lines, `usb` is the byte side.
USB_IO_HZ = 48_000_000
USB_HZ = 12_000_000


class PacketEnds(wiring.Component):
    """Cuts a byte stream into packets: a byte that none follows for a while ends one.

    A USB device has to say which packet is short, or the host waits for more. A byte is passed on when the next one
    is there, or `patience` cycles after it came.

    Members
    -------
    i : ``In(stream.Signature(8))``
    o : ``Out(stream.Signature(PACKET_BYTE))``, at most a byte a cycle

    Parameters
    ----------
    patience
        Cycles without a byte after which the packet ends.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(PACKET_BYTE))})

    def elaborate(self, platform: Any) -> Module:
        """Build the cutter."""
        m = Module()
        byte = Signal(8)
        full, ended = Signal(), Signal()
        left = Signal(range(self.patience + 1))
        m.d.comb += [
            self.o.p.data.eq(byte),
            self.o.p.last.eq(ended),
            self.o.valid.eq(full & (self.i.valid | ended)),
            self.i.ready.eq(~full | (self.o.valid & self.o.ready)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [byte.eq(self.i.p), full.eq(self.i.valid), ended.eq(0), left.eq(self.patience)]
        with m.Elif(full & ~self.i.valid):
            m.d.sync += left.eq(Mux(left == 0, 0, left - 1))
            with m.If(left == 0):
                m.d.sync += ended.eq(1)
        return m


class Crossing(wiring.Component):
    """Bytes between the domains `usb` and `sync`, both ways.

    Members
    -------
    from_host : ``In(stream.Signature(8))``, in `usb`
    rx : ``Out(stream.Signature(8))``, the same bytes in `sync`
    tx : ``In(stream.Signature(8))``, in `sync`
    to_host : ``Out(stream.Signature(PACKET_BYTE))``, the same bytes in `usb`, in packets
    """

    #: Bytes that wait in each direction; more than a packet of 64.
    DEPTH: ClassVar[int] = 128
    #: Cycles of `usb` without a byte that end a packet: some 3 microseconds.
    PATIENCE: ClassVar[int] = 32

    from_host: In(stream.Signature(8))
    rx: Out(stream.Signature(8))
    tx: In(stream.Signature(8))
    to_host: Out(stream.Signature(PACKET_BYTE))

    def elaborate(self, platform: Any) -> Module:
        """Build the crossing."""
        m = Module()
        m.submodules.down = down = AsyncFIFOBuffered(width=8, depth=self.DEPTH, w_domain="usb", r_domain="sync")
        m.submodules.up = up = AsyncFIFOBuffered(width=8, depth=self.DEPTH, w_domain="sync", r_domain="usb")
        m.submodules.ends = ends = DomainRenamer("usb")(PacketEnds(self.PATIENCE))
        connect(m, flipped(self.from_host), down.w_stream)
        connect(m, down.r_stream, flipped(self.rx))
        connect(m, flipped(self.tx), up.w_stream)
        connect(m, up.r_stream, ends.i)
        connect(m, ends.o, flipped(self.to_host))
        return m


class UsbSerial(wiring.Component):
    """A serial device on USB, in the place of a UART.

    Members
    -------
    rx : ``Out(stream.Signature(8))``, bytes from the host
    tx : ``In(stream.Signature(8))``, bytes to the host

    Parameters
    ----------
    bus
        What LUNA's `USBDevice` takes: the lines D+ and D- as buffers, or a transceiver.
    names
        Descriptors by the names of the parameters of LUNA's `USBSerialDevice`.

    Raises
    ------
    BuildError
        LUNA is not installed.
    """

    rx: Out(stream.Signature(8))
    tx: In(stream.Signature(8))

    def __init__(self, bus: Any, **names: Any) -> None:
        try:
            from luna.gateware.usb.devices.acm import USBSerialDevice
        except ImportError:
            raise BuildError(
                "a USB device in the FPGA needs LUNA: `pip install luna-usb` (or `pip install polyspike[boards]`)"
            ) from None
        self.device = USBSerialDevice(bus=bus, **names)
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        """Build the device."""
        m = Module()
        m.submodules.device = device = self.device
        m.submodules.crossing = crossing = Crossing()
        connect(m, crossing.rx, flipped(self.rx))
        connect(m, flipped(self.tx), crossing.tx)
        m.d.comb += [
            device.connect.eq(1),
            crossing.from_host.p.eq(device.rx.payload),
            crossing.from_host.valid.eq(device.rx.valid),
            device.rx.ready.eq(crossing.from_host.ready),
            device.tx.payload.eq(crossing.to_host.p.data),
            device.tx.last.eq(crossing.to_host.p.last),
            device.tx.valid.eq(crossing.to_host.valid),
            crossing.to_host.ready.eq(device.tx.ready),
        ]
        return m


class UsbTop(Elaboratable):
    """Top of a board whose USB port is wired to the FPGA."""

    def __init__(self, board: "UsbBoard") -> None:
        self.board = board

    def elaborate(self, platform: Any) -> Module:
        """Build the top."""
        m = Module()
        board = self.board
        m.domains += board.clock.domains()
        m.submodules.clock = board.clock.module(platform)
        port = platform.request("usb", 0, dir="-")
        m.submodules.d_p = d_p = io.Buffer("io", port.d_p)
        m.submodules.d_n = d_n = io.Buffer("io", port.d_n)
        m.submodules.pullup = pullup = io.Buffer("o", port.pullup)
        m.submodules.core = core = Core(board.configuration, board.clock_hz)
        m.submodules.usb = usb = UsbSerial(
            types.SimpleNamespace(d_p=d_p, d_n=d_n, pullup=pullup),
            idVendor=board.vendor_id,
            idProduct=board.product_id,
            manufacturer_string="polyspike",
            product_string=f"polyspike {board.configuration.name}",
            serial_number=board.configuration.digest,
        )
        connect(m, usb.rx, core.rx)
        connect(m, core.tx, usb.tx)

        beat = beats(m, board.clock_hz)
        m.submodules.running = running = Stretch(GLIMPSE)
        m.submodules.error = error = Stretch(HALF_SECOND)
        m.d.comb += [
            running.beat.eq(beat),
            running.trigger.eq(core.busy),
            error.beat.eq(beat),
            error.trigger.eq(core.fault),
        ]
        light(m, platform, board.leds, idle=~running.shown, running=running.shown, error=error.shown)
        board.wire(m, platform)
        return m


class UsbBoard(Ecp5Board):
    """A board with an ECP5 whose USB port is wired to the FPGA."""

    fastest_baud = 0
    link = "USB, serial device in the FPGA"
    #: The number that pid.codes keeps for tests. Operating systems know a serial device by its class, not by this.
    vendor_id: ClassVar[int] = 0x1209
    product_id: ClassVar[int] = 0x0001

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync` and of USB's domains."""
        return Ecp5Clock(input_hz, clock_hz, target_hz, (("usb_io", USB_IO_HZ), ("usb", USB_HZ)))

    def top(self) -> Elaboratable:
        """Return the design."""
        return UsbTop(self)

    def files(self, verilog: bool = False) -> dict[str, str]:
        """Return the build's input files by name. Can be called once."""
        with warnings.catch_warnings():
            # LUNA 0.2 uses parts of Amaranth that 0.6 will remove; the version is pinned below that.
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().files(verilog)
