"""The whole accelerator as emitted Verilog, run by the ordinary driver in cocotb and compared with the golden model.

`run_system` is called outside of the simulator. It hands cases over as files to the bench, which calls `run_cases`.
When an integer differs, it runs the bench again, which then leaves the waveform around the write of the wrong word.
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge
from numpy.typing import NDArray

from polyspike.compiler import Program, load_program, save_program
from polyspike.driver import Connection, Result, WordDevice, compare, open_device
from polyspike.driver.device import make_result
from polyspike.driver.link import Link
from polyspike.spec import DeviceError

from .bench import TOP, run_bench
from .cocotb_transport import start_link
from .diagnose import Probe, diagnose, record
from .waves import write_save_file

#: How `run_system` tells a bench what to do: the folder of the cases, and the window to record, if any.
_FOLDER, _WINDOW = "POLYSPIKE_CASES", "POLYSPIKE_WINDOW"

#: Files in that folder: what is wrong, the window around it, and the waveform.
_TEXT, _CYCLES, WAVEFORM = "mismatch.txt", "window.txt", "neighbourhood.vcd"


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A program, images (uint8 [N, C, H, W]), and what must come of them: a traced result."""

    program: Program
    images: NDArray[np.uint8]
    expected: Result


def golden_case(program: Program, images: NDArray[np.uint8]) -> Case:
    """Return a case whose expected result is the golden model's."""
    with open_device("golden") as device:
        device.load(program)
        return Case(program, images, device.infer(images, trace=True))


def run_system(component: Any, bench: str, cases: Sequence[Case], directory: Path) -> int:
    """Run cases one after the other on one simulated accelerator, and return how many integers were compared.

    Parameters
    ----------
    component
        A `Core` or an `AxiEngine`.
    bench
        The bench's name, as it is imported. Its test awaits `run_cases`.
    cases
        Programs for the component's configuration.
    directory
        Where everything goes; made if missing. Cases of an earlier run in it are deleted.

    Raises
    ------
    DeviceError
        An integer differs: the message names layer, timestep, position, channel, both values, the cycle in which the
        word was written, and the waveform. Or the bench failed for another reason.
    """
    folder = directory / "cases"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index, case in enumerate(cases):
        _save(case, folder / f"{index:04}")
    environment = {_FOLDER: str(folder.absolute())}
    try:
        run_bench(component, bench, directory=directory / "bench", environment=environment)
    except DeviceError as error:
        if not (folder / _TEXT).exists():
            raise
        text = (folder / _TEXT).read_text()
        window = (folder / _CYCLES).read_text()
        try:
            run_bench(component, bench, directory=directory / "recording", environment={**environment, _WINDOW: window})
        except DeviceError:
            waveform = folder / WAVEFORM
            save = waveform.with_suffix(".gtkw")
            write_save_file((directory / "recording" / f"{TOP}.v").read_text(), TOP, waveform, save)
            text += f"\nwaveform of cycles {window.replace(' ', ' to ')}: {waveform}; GTKWave opens {save}"
        else:
            text += "\nthere is no waveform: the second simulation did not fail"
        raise DeviceError(text) from error
    return sum(_integers(case.expected) for case in cases)


def _integers(result: Result) -> int:
    assert result.counts is not None
    return int(result.membranes.size + sum(counts.size for counts in result.counts.values()))


def _save(case: Case, path: Path) -> None:
    save_program(case.program, path.with_suffix(".pspk"))
    assert case.expected.counts is not None
    shape = (len(case.images), *case.program.network.output.shape)
    arrays: dict[str, Any] = {f"counts/{name}": counts for name, counts in case.expected.counts.items()}
    np.savez(path.with_suffix(".npz"), images=case.images, membranes=case.expected.membranes.reshape(shape), **arrays)


def _load(path: Path) -> Case:
    program = load_program(path)
    with np.load(path.with_suffix(".npz")) as arrays:
        counts = {node.name: arrays[f"counts/{node.name}"] for node in program.network.nodes[:-1]}
        return Case(program, arrays["images"], make_result(program.network, arrays["membranes"], counts))


async def run_cases(dut: Any) -> None:
    """Run the cases that `run_system` has handed over on a simulated `Core` or `AxiEngine`.

    Raises
    ------
    AssertionError
        An integer differs. What is known about it has been written for `run_system`.
    """
    folder = Path(os.environ[_FOLDER])
    cases = [_load(path) for path in sorted(folder.glob("*.pspk"))]
    assert cases, f"there are no cases in {folder}"
    configuration = cases[0].program.configuration
    probe = Probe(dut, configuration)
    recording = None
    if window := os.environ.get(_WINDOW):
        first, last = map(int, window.split())
        recording = cocotb.start_soon(record(dut, (first, last), folder / WAVEFORM))
    if hasattr(dut, "aclk"):
        from .cocotb_axi import start_axi

        port = await start_axi(dut)
        connection = Connection(port, configuration, "the emitted Verilog behind AXI", lambda: None)
    else:
        transport = await start_link(dut)
        frames = {"frame_words": configuration.frame_words, "rx_bytes": configuration.rx_bytes}
        # Always the same session, so that a second simulation gets the same bytes.
        link = await bridge(Link)(transport, session=1, **frames)
        connection = Connection(link, configuration, "the emitted Verilog behind its link", transport.close)
    device = await bridge(WordDevice)(lambda _: connection, "cocotb", configuration)

    def run(case: Case) -> str | None:
        device.load(case.program)
        device.reset()
        probe.take()
        result = device.infer(case.images, trace=True)
        activity = probe.take()
        counters = device.counters()
        stalls = counters.stall_fetch + counters.stall_port + counters.stall_drain + counters.stall_idle
        assert counters.events + stalls == counters.cycles * configuration.columns
        comparison = compare(result, case.expected)
        dut._log.info("%s: %s; %s", case.program.network.name, comparison, counters)
        if not comparison.differing:
            return None
        found = diagnose(case.program, comparison, activity, len(case.images))
        (folder / _CYCLES).write_text(f"{found.window[0]} {found.window[1]}")
        (folder / _TEXT).write_text(f"network {case.program.network.name!r}: {found.text}")
        return found.text

    for case in cases:
        text = await bridge(run)(case)
        if text is not None:
            if recording is not None:
                await recording
            raise AssertionError(text)
    await bridge(device.close)()
