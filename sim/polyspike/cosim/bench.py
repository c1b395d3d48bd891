"""Runs cocotb benches on the Verilog that a component becomes.

A bench is a Python module of `cocotb.test` functions. The simulator is Icarus, or what the environment variable SIM
names. WAVES=1 records waves, `top.fst` (of Verilator `dump.vcd`) in the bench's directory, with `top.gtkw` beside them,
which GTKWave opens.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from polyspike.gateware.verilog import verilog
from polyspike.spec import DeviceError

from .build import verilator
from .waves import write_save_file

#: Name of the Verilog module that is simulated.
TOP = "top"

#: Lines of a failed bench's log that its error shows.
_LOG_LINES = 60


def run_bench(
    component: Any,
    module: str,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Emit a component's Verilog and run a bench on it.

    Parameters
    ----------
    component
        The Amaranth component. A port of member `a.b` is called `a__b` in Verilog, clock and reset `clk` and `rst`.
    module
        The bench's name, as it is imported; the simulator searches this process's `sys.path`.
    directory
        Where Verilog, build, log and results go; made if missing.
    environment
        Variables for the bench.

    Returns
    -------
    The number of tests in the bench, all of them passed.

    Raises
    ------
    DeviceError
        A test failed, or there was none. The message has the end of the log.
    """
    simulator = os.environ.get("SIM", "icarus")
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / f"{TOP}.v"
    text = verilog(component, TOP)
    source.write_text(text)
    log, results = directory / "bench.log", directory / "results.xml"
    runner = get_runner(simulator)
    build_args, path = [], os.environ["PATH"]
    if simulator == "verilator":
        build_args = ["-Wno-fatal"]
        os.environ["PATH"] = os.pathsep.join([str(Path(verilator()).parent), path])
    try:
        runner.build(
            sources=[source],
            hdl_toplevel=TOP,
            build_dir=directory,
            build_args=build_args,
            timescale=("1ns", "1ps"),
            log_file=directory / "build.log",
        )
        if runner.waves:
            waves = directory / ("dump.vcd" if simulator == "verilator" else f"{TOP}.fst")
            write_save_file(text, TOP, waves, directory / f"{TOP}.gtkw")
        runner.test(
            module,
            TOP,
            build_dir=directory,
            results_xml=str(results.absolute()),
            extra_env=environment or {},
            log_file=log,
        )
        tests, failures = get_results(results)
    except (RuntimeError, SystemExit) as error:
        raise DeviceError(f"bench {module} on {simulator} did not finish or failed\n{_tail(directory)}") from error
    finally:
        os.environ["PATH"] = path
    if failures or not tests:
        raise DeviceError(f"bench {module} on {simulator}: {failures} of {tests} tests failed\n{_tail(directory)}")
    return tests


def _tail(directory: Path) -> str:
    """Return the end of the last log there is."""
    for log in (directory / "bench.log", directory / "build.log"):
        if log.exists():
            return "\n".join([f"the end of {log}:", *log.read_text(errors="replace").splitlines()[-_LOG_LINES:]])
    return f"there is no log in {directory}"
