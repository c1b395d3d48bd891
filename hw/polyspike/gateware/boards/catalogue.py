"""The boards, one small class each."""

import inspect
import runpy
from pathlib import Path
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import io
from amaranth_boards.arty_a7 import ArtyA7_35Platform
from amaranth_boards.colorlight_5a75b_r7_0 import Colorlight_5A75B_R70Platform
from amaranth_boards.de10_nano import DE10NanoPlatform
from amaranth_boards.ecpix5 import ECPIX585Platform
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.icesugar_pro import ICESugarProPlatform
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform, OrangeCrabR0_2_85FPlatform
from amaranth_boards.tang_nano_9k import TangNano9kPlatform
from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_25F_Platform, ULX3S_85F_Platform

from polyspike.spec import BuildError

from .board import Board, Leds
from .families import Ecp5Board, GowinBoard, Ice40Board, IntelBoard, XilinxBoard
from .usb import UsbBoard

_RGB = Leds(idle=("rgb_led 0 g",), running=("rgb_led 0 b",), error=("rgb_led 0 r",))


class Ulx3s(Ecp5Board):
    """Radiona ULX3S."""

    link = "USB, FT231X"
    fastest_baud = 3_000_000
    leds = Leds(idle=("led 0",), running=("led 1",), error=("led 2",))
    load_command = ("openFPGALoader", "-b", "ulx3s", "{file}")
    flash_command = ("openFPGALoader", "-b", "ulx3s", "-f", "{file}")

    def wire(self, m: Module, platform: Any) -> None:
        """Hold the ESP32's GPIO0 high: low, it makes the ESP32 take the board over."""
        m.submodules.esp32_gpio0 = gpio0 = io.Buffer("o", platform.request("esp32", 0, dir="-").gpio0)
        m.d.comb += gpio0.o.eq(1)


class Ulx3s85F(Ulx3s):
    """ULX3S with an LFE5U-85F."""

    name = "ulx3s-85f"
    platform = ULX3S_85F_Platform
    configuration_name = "large-pairs"
    default_clock_hz = 87_500_000
    default_target_hz = 100_000_000


class Ulx3s25F(Ulx3s):
    """ULX3S with an LFE5U-25F."""

    name = "ulx3s-25f"
    platform = ULX3S_25F_Platform
    configuration_name = "small"
    default_clock_hz = 100_000_000
    default_target_hz = 110_000_000


class Ulx3s12F(Ulx3s):
    """ULX3S with an LFE5U-12F, whose die is that of the 25F."""

    name = "ulx3s-12f"
    platform = ULX3S_12F_Platform
    configuration_name = "small"
    default_clock_hz = 100_000_000
    default_target_hz = 110_000_000


class Ecpix5(Ecp5Board):
    """LambdaConcept ECPIX-5 with an LFE5UM5G-85F."""

    name = "ecpix5-85f"
    platform = ECPIX585Platform
    configuration_name = "large"
    default_clock_hz = 80_000_000
    default_target_hz = 100_000_000
    link = "USB, FT2232H"
    fastest_baud = 12_000_000
    leds = _RGB
    load_command = ("openFPGALoader", "-b", "ecpix5", "{file}")
    flash_command = ("openFPGALoader", "-b", "ecpix5", "-f", "{file}")


class Colorlight5A75B(Ecp5Board):
    """Colorlight 5A-75B, revision 7.0: a LED panel's receiver card. Its UART is at connector J19."""

    name = "colorlight-5a-75b"
    platform = Colorlight_5A75B_R70Platform
    configuration_name = "small"
    default_clock_hz = 90_000_000
    default_target_hz = 110_000_000
    link = "3.3 V UART at J19"
    fastest_baud = 3_000_000
    #: The only LED is at the UART's transmit pin.
    leds = Leds()
    load_command = ("openFPGALoader", "-b", "colorlight", "{file}")
    flash_command = ("openFPGALoader", "-b", "colorlight", "--unprotect-flash", "-f", "{file}")


class IceSugarPro(Ecp5Board):
    """Muse Lab iCESugar-Pro."""

    name = "icesugar-pro"
    platform = ICESugarProPlatform
    configuration_name = "small"
    default_clock_hz = 100_000_000
    default_target_hz = 110_000_000
    link = "USB, iCELink"
    fastest_baud = 1_000_000
    leds = _RGB
    load_command = ("openFPGALoader", "-c", "cmsisdap", "{file}")
    flash_command = ("icesprog", "{file}")


class OrangeCrab(UsbBoard):
    """OrangeCrab r0.2. Its bootloader is a DFU device while the button is held down at power-up."""

    leds = _RGB
    flash_command = ("dfu-util", "-d", "1209:5af0", "-a", "0", "-D", "{file}")


class OrangeCrab85F(OrangeCrab):
    """OrangeCrab r0.2 with an LFE5U-85F."""

    name = "orangecrab-85f"
    platform = OrangeCrabR0_2_85FPlatform
    configuration_name = "large"
    default_clock_hz = 80_000_000
    default_target_hz = 100_000_000
    #: With the USB device `large` fills the part: the usual placer takes an hour, the static one a quarter of it.
    place_options = ("--placer", "static")


class OrangeCrab25F(OrangeCrab):
    """OrangeCrab r0.2 with an LFE5U-25F."""

    name = "orangecrab-25f"
    platform = OrangeCrabR0_2_25FPlatform
    configuration_name = "small"
    default_clock_hz = 100_000_000
    default_target_hz = 110_000_000
    #: With the USB device it takes 85 % of the look-up tables, for which nextpnr's usual placer finds no legal places.
    place_options = ("--placer", "static")


class IceBreaker(Ice40Board):
    """1BitSquared iCEBreaker."""

    name = "icebreaker"
    platform = ICEBreakerPlatform
    configuration_name = "tiny"
    default_clock_hz = 24_000_000
    link = "USB, FT2232H"
    fastest_baud = 12_000_000
    #: Two LEDs for three states.
    leds = Leds(idle=("led_g 0",), running=("led_g 0", "led_r 0"), error=("led_r 0",))
    #: Its FPGA can be loaded directly only with other jumpers set.
    flash_command = ("iceprog", "{file}")


class TangNano9K(GowinBoard):
    """Sipeed Tang Nano 9K."""

    name = "tangnano9k"
    platform = TangNano9kPlatform
    configuration_name = "tiny"
    default_clock_hz = 27_000_000
    link = "USB, BL702"
    fastest_baud = 2_000_000
    pack_options = ("--sspi_as_gpio", "--mspi_as_gpio")
    leds = Leds(idle=("led 0",), running=("led 1",), error=("led 2",))
    load_command = ("openFPGALoader", "-b", "tangnano9k", "{file}")
    flash_command = ("openFPGALoader", "-b", "tangnano9k", "-f", "{file}")


class ArtyA7(XilinxBoard):
    """Digilent Arty A7-35T."""

    name = "arty-a7"
    platform = ArtyA7_35Platform
    configuration_name = "small"
    default_clock_hz = 80_000_000
    link = "USB, FT2232H"
    fastest_baud = 12_000_000
    leds = Leds(idle=("led 0",), running=("led 1",), error=("led 2",))


class De10Nano(IntelBoard):
    """Terasic DE10-Nano. Its UART is at the Arduino header."""

    name = "de10-nano"
    platform = DE10NanoPlatform
    configuration_name = "small"
    default_clock_hz = 80_000_000
    link = "3.3 V UART at the Arduino header"
    fastest_baud = 3_000_000
    leds = Leds(idle=("led 0",), running=("led 1",), error=("led 2",))


#: The boards by name.
BOARDS: dict[str, type[Board]] = {
    board.name: board
    for board in (
        Ulx3s85F,
        Ulx3s25F,
        Ulx3s12F,
        Ecpix5,
        Colorlight5A75B,
        IceSugarPro,
        OrangeCrab85F,
        OrangeCrab25F,
        IceBreaker,
        TangNano9K,
        ArtyA7,
        De10Nano,
    )
}


def find(name: str) -> type[Board]:
    """Return the class of a board.

    Parameters
    ----------
    name
        A board of `BOARDS`, or `path/to/file.py:Class` for one of the user's own.

    Raises
    ------
    BuildError
        There is no such board, or no board in that file.
    """
    path, colon, class_name = name.rpartition(":")
    if not colon:
        if name not in BOARDS:
            raise BuildError(f"unknown board {name!r}; there are {', '.join(BOARDS)}, and `file.py:Class` for your own")
        return BOARDS[name]
    if not Path(path).is_file():
        raise BuildError(f"board {name!r}: no file {path}")
    found = runpy.run_path(path).get(class_name)
    if not isinstance(found, type) or not issubclass(found, Board) or inspect.isabstract(found):
        raise BuildError(f"board {name!r}: {path} has no class {class_name} that is a complete Board")
    return found
