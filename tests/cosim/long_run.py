"""The long run (`make cosim-long`): random programs against the golden model, until enough crosses are covered.

    python tests/cosim/long_run.py [--programs 1000] [--verilog 40] [--images 2] [--restart] [--only SEED]

Every program runs twice on the compiled gateware of `tiny` or of `large`: traced, and not. The first ones are random;
the others are aimed at what is not covered yet. Some of them, and the demo network, then run as emitted Verilog in
cocotb. Writes docs/verification: coverage.json, coverage.md, and cosim-long.log with the seed of every program. An
interrupted run goes on where it was. `--only` repeats one program of the log.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from polyspike.compiler import compile
from polyspike.convert import Options, convert, demo
from polyspike.convert.datasets import fashion_mnist
from polyspike.cosim import build
from polyspike.cosim.coverage import GROUPS, PASSES, RUNS, Coverage, Cross, Observer, observe
from polyspike.cosim.device import connector
from polyspike.cosim.random_networks import Aim, aimed_network, random_images, random_network
from polyspike.cosim.system import golden_case, run_system
from polyspike.driver import Connection, WordDevice, compare
from polyspike.gateware.axi import AxiEngine
from polyspike.gateware.core import Core
from polyspike.network import Network
from polyspike.spec import LARGE, TINY, Configuration, DeviceError

REPOSITORY = Path(__file__).parents[2]

CONFIGURATIONS = (TINY, LARGE)

#: Runs as Verilog, where `large` takes too long.
QUAD = TINY.replace(name="quad", columns=4, compact=0, read_ports=2, unpacker=1)

BENCH = "cosim.benches.bench_system"

#: Of the programs, the share that is not aimed at anything.
UNAIMED = 0.4

#: What a synapse may be that is not aimed at.
_KINDS = ("conv", "conv", "depthwise")


@dataclasses.dataclass(frozen=True)
class Done:
    """What one program did, as it stands in the file from which a run goes on."""

    seed: int
    configuration: str
    aim: dict[str, Any] | None
    timesteps: int
    nodes: int
    runs: int
    integers: int
    differing: int
    crosses: list[tuple[str, Cross]]

    @property
    def line(self) -> str:
        """Its line of the log."""
        aim = "random"
        if self.aim is not None:
            defaults = {each.name: each.default for each in dataclasses.fields(Aim)}
            chosen = {name: value for name, value in self.aim.items() if value != defaults[name]}
            aim = "aimed " + json.dumps(chosen, separators=(",", ":"))
        return (
            f"seed {self.seed} on {self.configuration}: {self.differing} of {self.integers} integers differ; "
            f"T = {self.timesteps}, {self.nodes} nodes, {self.runs} RUNs, {aim}"
        )


class Machine:
    """A simulated device that is observed."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.observer: Observer

        def connect(configuration: Configuration) -> Connection:
            connection, self.observer = observe(connector()(configuration))
            return connection

        self.device = WordDevice(connect, "simulated gateware", configuration)

    def run(self, seed: int, aim: Aim | None, images: int) -> Done:
        """Run a program, traced and not, and compare both with the golden model."""
        network = network_of(seed, aim)
        batch = random_images(network, seed, images)
        program = compile(network, self.configuration)
        expected = golden_case(program, batch).expected
        self.device.load(program)
        self.observer.seen.clear()
        comparison = compare(self.device.infer(batch, trace=True), expected)
        crosses = sorted(set(self.observer.seen))
        runs = sum(name == RUNS.name for name, _ in self.observer.seen)
        # The same without reading layers back: the driver then sends an image while the one before is computed.
        self.observer.watching = False
        membranes = self.device.infer(batch).membranes
        self.observer.watching = True
        return Done(
            seed,
            self.configuration.name,
            None if aim is None else dataclasses.asdict(aim),
            network.timesteps,
            len(network.nodes),
            runs,
            comparison.compared + membranes.size,
            comparison.differing + int((membranes != expected.membranes).sum()),
            crosses,
        )


def repeat(log: Path, seed: int, images: int) -> Done:
    """Run a program of a log again."""
    for line in log.read_text().splitlines():
        if found := re.match(rf"seed {seed} on (\w+): .*, (random|aimed (\{{.*\}}))$", line):
            configuration = next(each for each in CONFIGURATIONS if each.name == found[1])
            return Machine(configuration).run(seed, aim_of(json.loads(found[3])) if found[3] else None, images)
    raise DeviceError(f"{log} has no program of seed {seed}")


def aim_of(fields: dict[str, Any]) -> Aim:
    """Return an aim from what was written to a file."""
    fired = fields.get("fired")
    lists = {"kinds": tuple(fields["kinds"]), "fired": None if fired is None else (fired[0], fired[1])}
    return Aim(**(fields | lists))


def network_of(seed: int, aim: Aim | None) -> Network:
    """Return the network of a program."""
    return random_network(seed) if aim is None else aimed_network(seed, aim)


def aim_at(group: str, cross: Cross, seed: int, configuration: Configuration) -> Aim | None:
    """Return what has a chance to hit a cross; None where that would take too long."""
    generator = random.Random(seed)
    values = dict(zip(next(each for each in GROUPS if each.name == group).axes, cross, strict=True))
    fire = values["fire"]
    timesteps = {"1": 1, "2": 2, "3 or more": 3}.get(values.get("timesteps", ""), generator.choice((1, 2, 3)))
    if "MAXIMUM" in cross:
        timesteps = 1
    mapping = values.get("mapping", "one column")
    if mapping == "one column":
        mapping = generator.choice(("channels", "positions"))
    read = values.get("format", "").split() if group == PASSES.name else []
    bits = int(read[0]) if len(read) == 2 else generator.choice((4, 8))
    signed = read[1] == "signed" if len(read) == 2 else generator.choice((False, True))
    fired = None
    whole = 0
    drain = values.get("stall") == "drain"

    kinds: list[str] = []

    def name(mode: str) -> str:
        summed = values.get("pooling") == "sum"
        plain = {"BROADCAST": "conv", "ELEMENTWISE": "depthwise", "MAXIMUM": "maxpool", "RAW": "conv"}
        return {"conv": "shared", "depthwise": "sumpool"}[plain[mode]] if summed else plain[mode]

    def others(count: int) -> list[str]:
        # One synapse that is slow would leave the fire unit idle.
        return [kinds[0] if drain and kinds else generator.choice(_KINDS) for _ in range(count)]

    if group == PASSES.name:
        mode = values["pass"]
        kinds = [name(mode)]
        if mode == "RAW":
            # The third synapse continues the sums of the first two, and is continued where there is a fourth.
            kinds = others(4 if fire == "RAW" else 3)
        elif fire == "RAW":
            kinds += others(2)
        elif mode != "MAXIMUM" and generator.random() < 0.3:
            kinds += others(1)
    elif group == RUNS.name:
        first, second = values["first"], values["second"]
        if second == "none" and (first == "RAW" or fire == "RAW"):
            # Where one window of all timesteps is too much, each part is added up alone, and the sums fire alone.
            if first == "ELEMENTWISE" and configuration is LARGE:
                return None  # 2 MB of weights
            whole, timesteps, bits = configuration.spike_depth // 21, 4, 8
            kinds = [name("BROADCAST" if first == "RAW" else first), "conv"]
        elif first == "RAW":
            kinds = [*others(2), name(second), *others(fire == "RAW")]
        else:
            kinds = [name(first), *([] if second == "none" else [name(second)]), *others(fire == "RAW")]
    else:
        kinds = others(3) if fire == "RAW" else others(generator.choice((1, 2)))
        if fire == "SPIKE":
            width, form = values["format"].split()
            fired = int(width), form == "signed"
    if group == PASSES.name and drain and fire == "SPIKE":
        # Two words a tile: with all columns at it, writing takes longer than firing.
        fired = 8, generator.choice((False, True))
    return Aim(
        tuple(kinds),
        bits,
        signed,
        timesteps,
        mapping,
        membrane=fire == "MEMBRANE" or (fire == "RAW" and generator.random() < 0.3),
        rectified=values.get("rectified") == "yes" or (group != "fire" and generator.random() < 0.2),
        drain=drain,
        deep=not drain
        and fire != "SPIKE"
        and mapping != "channels"
        and configuration.columns > 1
        and generator.random() < 0.8,
        whole=whole,
        fired=fired,
        columns=configuration.columns,
        lanes=configuration.lanes,
    )


class Campaign:
    """Programs that ran, what they covered, and what to run next."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "programs.jsonl"
        self.coverage = Coverage()
        self.done: list[Done] = []
        self.tries: collections.Counter[tuple[str, Cross]] = collections.Counter()
        self.header = {"gateware": [build.core(each).key for each in CONFIGURATIONS]}

    def resume(self, restart: bool) -> None:
        """Take up what ran before, if it was the same gateware."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() and not restart else []
        if not lines or json.loads(lines[0]) != self.header:
            self.file.write_text(json.dumps(self.header) + "\n")
            return
        for line in lines[1:]:
            fields = json.loads(line)
            fields["crosses"] = [(name, tuple(cross)) for name, cross in fields["crosses"]]
            self._count(Done(**fields))

    def add(self, done: Done) -> None:
        """Keep what a program did."""
        self._count(done)
        with self.file.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(done)) + "\n")

    def _count(self, done: Done) -> None:
        self.done.append(done)
        self.coverage.add(done.crosses)

    def holes(self, configuration: Configuration) -> Iterator[tuple[str, Cross]]:
        """Yield what a configuration could still cover."""
        hardware = "compact" if configuration.compact else "columns"
        for group in GROUPS:
            for cross in self.coverage.holes(group):
                if cross[0] == hardware:
                    yield group.name, cross

    def next(self, unaimed: int) -> tuple[int, Configuration, Aim | None]:
        """Return the next program: its seed, where it runs, and what it is aimed at."""
        seed = len(self.done)
        configuration = CONFIGURATIONS[seed % 2]
        if seed < unaimed:
            return seed, configuration, None
        # The one with more holes has more programs.
        candidates = {each.name: list(self.holes(each)) for each in CONFIGURATIONS}
        if not any(candidates.values()):
            return seed, configuration, None
        if seed % 4 or not candidates[configuration.name]:
            configuration = max(CONFIGURATIONS, key=lambda each: len(candidates[each.name]))
        hole = min(candidates[configuration.name], key=lambda each: (self.tries[each], hash_of(each)))
        self.tries[hole] += 1
        return seed, configuration, aim_at(*hole, seed, configuration)

    def write(self, folder: Path, verilog: list[str], seconds: float) -> str:
        """Write log and tables, and return what came out."""
        folder.mkdir(parents=True, exist_ok=True)
        integers, differing = sum(each.integers for each in self.done), sum(each.differing for each in self.done)
        summary = (
            f"{len(self.done)} random programs, {sum(each.runs for each in self.done)} RUNs: "
            f"{differing} of {integers} integers differ from the golden model"
        )
        log = [each.line for each in self.done]
        (folder / "cosim-long.log").write_text("\n".join([*log, *verilog, summary]) + "\n")
        entries = [json.dumps(each) for each in self.coverage.to_json()]
        (folder / "coverage.json").write_text("[\n" + ",\n".join(entries) + "\n]\n")
        configurations = ", ".join(
            f"`{each.name}` ({each.columns} column{'s' * (each.columns > 1)})" for each in CONFIGURATIONS
        )
        text = [
            "# Functional coverage",
            "",
            "Written by `make cosim-long`. A cross is a combination of what an instruction can say, of how columns are "
            "used and of what stalled; `sim/polyspike/cosim/coverage.py` defines them, and reads them off the "
            "instructions that were written to the device and the counters around each run.",
            "",
            f"{summary}; on {configurations}. Seeds are in [cosim-long.log](cosim-long.log), every cross is in "
            "[coverage.json](coverage.json).",
            "",
            *(f"- {line}" for line in verilog),
            "",
            self.coverage.markdown(),
        ]
        (folder / "coverage.md").write_text("\n".join(text))
        hit, reachable = (sum(each) for each in zip(*map(self.coverage.reached, GROUPS), strict=True))
        return f"{summary}\n{hit} of {reachable} crosses ({hit / reachable:.1%}) are covered; {seconds:.0f} s"


def hash_of(hole: tuple[str, Cross]) -> int:
    """Return a number that mixes the order of holes, the same in every process."""
    return random.Random(repr(hole)).getrandbits(32)


def run_verilog(programs: int, images: int, folder: Path) -> list[str]:
    """Run random programs and the demo network as emitted Verilog in cocotb, and return what came out."""
    lines = []
    simulator = os.environ.setdefault("SIM", "verilator")
    for configuration, component, name in ((TINY, Core(TINY), "over its link"), (QUAD, AxiEngine(QUAD), "behind AXI")):
        seeds = range(programs // 2)
        cases = []
        for seed in seeds:
            network = random_network(seed)
            cases.append(golden_case(compile(network, configuration), random_images(network, seed, images)))
        if configuration is TINY:
            network = convert(demo.load_finetuned(Options(timesteps=1)), name="demo")
            cases.append(golden_case(compile(network, TINY), fashion_mnist("test").first(1).images))
        integers = run_system(component, BENCH, cases, folder / configuration.name)
        what = f"seeds 0 to {seeds[-1]}" + (" and one image of the demo network" if configuration is TINY else "")
        lines.append(
            f"{configuration.name} {name}, emitted Verilog in cocotb ({simulator}), {what}: "
            f"0 of {integers} integers differ"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> int:
    """Run it; the exit status is 1 where an integer differs or too little is covered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000, help="programs at least (default: 1000)")
    parser.add_argument("--most", type=int, default=4000, help="programs at most, for coverage (default: 4000)")
    parser.add_argument("--goal", type=float, default=0.95, help="share of the reachable crosses (default: 0.95)")
    parser.add_argument("--verilog", type=int, default=40, help="programs as Verilog in cocotb; 0: none (default: 40)")
    parser.add_argument("--images", type=int, default=2, help="images a program (default: 2)")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "cosim-long", help="where to go on from")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "verification", help="where tables go")
    parser.add_argument("--restart", action="store_true", help="begin anew")
    parser.add_argument("--only", type=int, metavar="SEED", help="repeat this program of the log")
    options = parser.parse_args()
    start = time.monotonic()
    torch.set_num_threads(1)
    if options.only is not None:
        done = repeat(options.output / "cosim-long.log", options.only, options.images)
        print(done.line)
        return 1 if done.differing else 0
    campaign = Campaign(options.work)
    campaign.resume(options.restart)
    machines = {each.name: Machine(each) for each in CONFIGURATIONS}
    unaimed = round(UNAIMED * options.programs)

    def covered() -> float:
        hit, reachable = (sum(each) for each in zip(*map(campaign.coverage.reached, GROUPS), strict=True))
        return hit / reachable

    share = covered()
    with tqdm(total=options.programs, initial=len(campaign.done), unit="program") as bar:
        while len(campaign.done) < options.programs or (share < options.goal and len(campaign.done) < options.most):
            seed, configuration, aim = campaign.next(unaimed)
            done = machines[configuration.name].run(seed, aim, options.images)
            campaign.add(done)
            share = covered()
            bar.update(1)
            bar.set_postfix_str(f"{share:.1%} covered")
            if done.differing:
                bar.write(done.line)
    verilog = run_verilog(options.verilog, options.images, options.work) if options.verilog else []
    print(campaign.write(options.output, verilog, time.monotonic() - start))
    wrong = [each for each in campaign.done if each.differing]
    return 1 if wrong or share < options.goal else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DeviceError as error:
        sys.exit(f"error: {error}")
