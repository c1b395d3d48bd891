"""`polyspike explore`: the fastest configuration of a board for a network."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyspike.spec import NEURON_FEATURES, BuildError, InputError

from .arguments import positive

if TYPE_CHECKING:
    from polyspike.compiler.density import Density
    from polyspike.explore import Candidate
    from polyspike.network import Network

NAME = "explore"
SUMMARY = "find the fastest configuration of a board for a network"
DESCRIPTION = """\
Predict what a network takes on every configuration that fits a board: clock cycles by the compiler's cost model,
look-up tables, multipliers, block RAMs and clock from what was synthesized and routed before. Columns, lanes, lanes
made of look-up tables, read ports, lanes fired together, pairs of positions and depths of memories are searched. The
fastest are printed, those that keep the whole network on the chip before all others, and the very fastest is written as
a file for `polyspike compile --config-file` and `polyspike build --config-file`. Rates are those of the core alone.

--build N also builds the best N, with synthesis, place and route, and shows what was predicted beside what was reached.
"""
EPILOG = """\
examples:
  polyspike explore --network net.pspk --board ulx3s-85f
  polyspike explore --network net.psnn --board ulx3s-25f --images test.npz --picture frontier.svg
  polyspike explore --network net.pspk --board ulx3s-25f --build 2
  polyspike explore --network net.pspk --board ulx3s-85f --dask tcp://scheduler:8786
"""

#: Images that densities are measured with.
IMAGES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="a program or an integer network")
    parser.add_argument("--board", required=True, metavar="NAME", help="a board of `polyspike boards` with an ECP5")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FILE",
        help=f"measure how many counts are not zero with the first {IMAGES} of these (default: half of them)",
    )
    parser.add_argument(
        "--neuron", choices=NEURON_FEATURES, default="pmsm", help="the neurons of an integer network (default: pmsm)"
    )
    parser.add_argument("--top", type=positive, default=10, metavar="N", help="configurations to print (default: 10)")
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--dask", metavar="ADDRESS", help="compile on a Dask cluster instead of in processes here")
    parser.add_argument("--build", type=positive, default=0, metavar="N", help="build the best N")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder (default: build/explore/BOARD)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all configurations with their predictions")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw rate over look-up tables, and the frontier")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from tqdm import tqdm

    from polyspike.compiler.density import DEFAULT_DENSITY
    from polyspike.explore import frontier, search
    from polyspike.gateware.boards import find

    from .plots import draw_frontier, save_figure
    from .text import table

    network, features = _network(options.network, options.neuron)
    board = find(options.board)
    density = DEFAULT_DENSITY if options.images is None else _density(network, options.images)
    with _executor(options.jobs, options.dask) as executor, tqdm(unit="configuration") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = search(network, board, executor, density=density, features=features, progress=progress)
    if not found:
        raise InputError(f"{options.network}: no configuration that fits {board.name} takes this network")
    folder: Path = options.output or Path("build", "explore", board.name)
    folder.mkdir(parents=True, exist_ok=True)
    best = frontier(found)
    print(table(_HEADINGS, [_row(each, each in best) for each in found[: options.top]]))
    print(
        f"{len(found)} configurations fit {board.name}. Rates are predicted, of the core. * Nothing smaller is as fast."
    )
    chosen = folder / "fastest.json"
    chosen.write_text(json.dumps(found[0].configuration.to_dict(), indent=2) + "\n")
    print(f"{chosen}: the first one, for --config-file")
    if options.json is not None:
        options.json.write_text(json.dumps([each.to_dict() for each in found], indent=2) + "\n")
    if options.picture is not None:
        save_figure(draw_frontier(found, best, f"{network.name} on {board.name}"), options.picture)
    for number, candidate in enumerate(found[: options.build], 1):
        _build(options.board, candidate, folder / str(number))
    return 0


_HEADINGS = (
    *("columns x lanes", "of LUTs", "ports", "fired", "pairs", "weights", "spikes", "params"),
    *("LUT", "DSP", "BRAM", "MHz", "cycles", "on chip", "images/s"),
)


def _row(candidate: "Candidate", front: bool) -> tuple[str, ...]:
    c, used = candidate.configuration, candidate.resources
    return (
        f"{c.columns} x {c.lanes}",
        *map(str, (c.fabric_lanes, c.read_ports, c.fire_width)),
        "yes" if c.pairs else "no",
        *map(str, (c.weight_depth, c.spike_depth, c.param_depth)),
        *(f"{each:,}" for each in (used.lut, used.dsp, used.bram)),
        f"{candidate.fmax_mhz:.0f}",
        f"{candidate.cycles:,}",
        "yes" if candidate.resident else "streamed",
        f"{candidate.images_per_second:,.1f}{' *' if front else '  '}",
    )


def _network(path: Path, neuron: str) -> tuple["Network", tuple[str, ...]]:
    """Return the network in a file, and the features that its neurons need."""
    from polyspike.compiler import load_program
    from polyspike.network import load
    from polyspike.spec.configuration import FEATURES

    if path.suffix == ".pspk":
        program = load_program(path)
        return program.network, tuple(each for each in FEATURES if getattr(program.configuration, each))
    return load(path), NEURON_FEATURES[neuron]


def _density(network: "Network", path: Path) -> "Density":
    """Return the share of counts of each map that are not zero."""
    from polyspike.golden import densities, run
    from polyspike.network import quantize

    from .images import load_images

    images = load_images(path).first(IMAGES)
    return densities(run(network, quantize(network.input, images.pixels), observe=True).counts)


@contextlib.contextmanager
def _executor(jobs: int | None, dask: str | None) -> Iterator[Executor]:
    """Return what runs calls: processes here, or a Dask cluster's."""
    if dask is None:
        with ProcessPoolExecutor(jobs) as pool:
            yield pool
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--dask needs the package distributed: pip install polyspike[dask]") from None
    try:
        client: Any = Client(dask, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {dask}: {error}") from None
    with client:
        yield client.get_executor()


def _build(name: str, candidate: "Candidate", folder: Path) -> None:
    """Build a candidate, and print what it reached beside what was predicted."""
    from polyspike import bitstreams
    from polyspike.gateware.boards import build, find

    from .build import Progress

    # A clock that is surely reached; what can be reached is what place and route is asked for.
    target = round(candidate.fmax_mhz * 1e6)
    board = find(name)(candidate.configuration, target // 2, target)
    progress = Progress()
    try:
        result = build.build(board, folder, progress=progress)
    except BuildError as error:
        print(f"{candidate.configuration.name}: {error}")
        return
    finally:
        progress.end()
    bitstreams.save(result.bitstream, folder)
    manifest, used = result.bitstream.manifest, candidate.resources
    got = manifest.utilization
    print(
        f"{candidate.configuration.name}: {got.lut:,} LUT ({used.lut:,} predicted), {got.dsp} DSP ({used.dsp}), "
        f"{got.bram} BRAM ({used.bram}), {manifest.fmax_mhz:.1f} MHz ({candidate.fmax_mhz:.1f}): "
        f"{manifest.fmax_mhz * 1e6 / candidate.cycles:,.1f} images/s ({candidate.images_per_second:,.1f})"
    )
