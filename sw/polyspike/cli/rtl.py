"""`polyspike rtl`: the accelerator as Verilog, for other people's chips."""

import argparse
import dataclasses
import re
from importlib import resources
from pathlib import Path
from typing import Any

from polyspike.spec import NAMED, Configuration
from polyspike.spec.axi import c_header

NAME = "rtl"
SUMMARY = "write the accelerator as Verilog, with AXI or with its own byte streams"
DESCRIPTION = """\
Write the accelerator of a hardware configuration as Verilog-2005, together with a template that instantiates it and a
page that says how to use it.

  --bus axi     AXI4-Lite for control, AXI4-Stream for data, and a C header of the registers
  --bus native  byte streams with the frames that the driver speaks, e.g. behind a UART or FIFO of your own
"""
EPILOG = """\
examples:
  polyspike rtl --config small --bus axi -o ip/polyspike
  polyspike rtl --config tiny --bus native --clock-hz 24000000
"""

BUSES = ("axi", "native")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config", choices=sorted(NAMED), default="small", help="hardware configuration (default: small)"
    )
    parser.add_argument("--bus", choices=BUSES, default="axi", help="interfaces (default: axi)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to write (default: polyspike_CONFIG_BUS here)"
    )
    parser.add_argument(
        "--clock-hz", type=hertz, default=0, metavar="HZ", help="what register CLOCK_HZ reads (default: 0, unknown)"
    )


def hertz(text: str) -> int:
    """Turn an argument into a frequency that fits the register."""
    value = int(text)
    if not 0 <= value < 1 << 32:
        raise ValueError
    return value


#: What argparse calls the type when it refuses a value.
hertz.__name__ = "frequency in Hz"


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.spec import named

    configuration = named(options.config)
    folder = options.output or Path(f"polyspike_{options.config}_{options.bus}")
    print(f"writing the accelerator of configuration {configuration.name!r} with bus {options.bus!r}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in export(configuration, options.bus, options.clock_hz).items():
        (folder / name).write_text(text)
        print(folder / name)
    return 0


def export(configuration: Configuration, bus: str, clock_hz: int = 0) -> dict[str, str]:
    """Return the files of an export by name: the same text for the same arguments.

    Parameters
    ----------
    configuration
        How much hardware.
    bus
        One of `BUSES`.
    clock_hz
        What register CLOCK_HZ reads; 0 for unknown.
    """
    import jinja2

    from polyspike.gateware.verilog import verilog

    from . import reference

    name = f"polyspike_{configuration.name.replace('-', '_')}_{bus}"
    text = verilog(_component(configuration, bus, clock_hz), name, joint="_")
    head = (
        f"// polyspike accelerator, configuration {configuration.name} (digest {configuration.digest}), bus {bus}.\n"
        "// SPDX-License-Identifier: Apache-2.0\n"
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(resources.files(__package__).joinpath(f"rtl_{bus}.md.j2").read_text())
    ports = _ports(text, name)
    files = {
        f"{name}.v": head + text,
        f"{name}_example.v": head + _example(name, ports),
        f"{name}.f": f"{name}.v\n",
        "README.md": page.render(
            name=name, configuration=configuration, clock_hz=clock_hz, ports=ports, reference=reference
        )
        + "\n",
    }
    if bus == "axi":
        files["polyspike_regs.h"] = c_header()
    else:
        files["link.md"] = reference.link_frames()
        files["registers.md"] = reference.register_map()
        files["memory.md"] = reference.memory_map()
    return files


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of the exported module."""

    name: str
    direction: str
    width: int

    @property
    def range(self) -> str:
        """Its range in a declaration, with the space after it."""
        return f"[{self.width - 1}:0] " if self.width > 1 else ""


def _ports(text: str, name: str) -> tuple[Port, ...]:
    """Return the ports that the emitted module has, clock and reset first, interface by interface."""
    body = re.split(rf"^module {name} ?\(", text, flags=re.MULTILINE)[1].split("endmodule")[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", body, re.MULTILINE)
    ports = [Port(name, direction, int(high or 0) + 1) for direction, high, name in found]
    order = ("aclk", "aresetn", "clk", "rst", "s_axil", "s_axis", "m_axis", "rx", "tx")
    rank = {port.name: next((i for i, each in enumerate(order) if port.name.startswith(each)), 99) for port in ports}
    return tuple(sorted(ports, key=lambda port: rank[port.name]))


def _component(configuration: Configuration, bus: str, clock_hz: int) -> Any:
    if bus == "axi":
        from polyspike.gateware.axi import AxiEngine

        return AxiEngine(configuration, clock_hz)
    from polyspike.gateware.core import Core

    return Core(configuration, clock_hz)


def _example(name: str, ports: tuple[Port, ...]) -> str:
    """Return a module that does nothing but hand the ports through: what to copy."""
    declarations = ",\n".join(f"    {port.direction:<6} wire {port.range}{port.name}" for port in ports)
    connections = ",\n".join(f"        .{port.name}({port.name})" for port in ports)
    return f"module {name}_example (\n{declarations}\n);\n    {name} accelerator (\n{connections}\n    );\nendmodule\n"
