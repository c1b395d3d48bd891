"""The search: every configuration that fits a board, what a network is predicted to take on it, the fastest first."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from typing import Any

from polyspike.compiler import compile
from polyspike.compiler.density import DEFAULT_DENSITY, Density
from polyspike.gateware.boards import Board
from polyspike.network import Network
from polyspike.spec import CompileError, Configuration, ConfigurationError, MembraneOverflowError

from .resources import Resources, available, predict, predict_fmax

#: What is tried. Lanes made of look-up tables are as many as the part has too few multipliers for; with some of them
#: there are no pairs.
COLUMNS, LANES, READ_PORTS, FIRE_WIDTHS, PAIRS = (1, 2, 4, 8, 16), (8, 16), (1, 2, 4), (1, 2), (0, 1)
WEIGHT_DEPTHS = (512, 1024, 2048, 4096, 8192)
SPIKE_DEPTHS = (1024, 2048, 4096, 8192, 16384)
PARAM_DEPTHS = (256, 512, 1024, 2048)
PROGRAM_DEPTH = 512

#: Calls that the search is divided into, at most about so many.
CALLS = 64


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A configuration, and what is predicted of it for a network on a board."""

    configuration: Configuration
    resources: Resources
    fmax_mhz: float
    #: clock cycles for an image
    cycles: int
    #: Whether everything stays on the chip; where not, weights or maps come over the link, which costs far more.
    resident: bool

    @property
    def images_per_second(self) -> float:
        """Images a second of the core alone."""
        return self.fmax_mhz * 1e6 / self.cycles

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "configuration": self.configuration.to_dict(),
            "resources": dataclasses.asdict(self.resources),
            "fmax_mhz": round(self.fmax_mhz, 1),
            "cycles_per_image": self.cycles,
            "resident": self.resident,
            "images_per_s": round(self.images_per_second, 2),
        }


def configurations(board: type[Board], features: Sequence[str] = ()) -> Iterator[Configuration]:
    """Yield the configurations that fit a board and cannot have a deeper memory without another one being less deep.

    `features` are those of `polyspike.spec.configuration.FEATURES` that all of them have.

    Raises
    ------
    BuildError
        Nothing can be predicted for the board's part.
    """
    room = available(board)
    for columns, lanes, ports, fire_width, pairs in itertools.product(COLUMNS, LANES, READ_PORTS, FIRE_WIDTHS, PAIRS):
        fabric = max(0, lanes - room.dsp // columns)
        fitting = []
        for depths in itertools.product(WEIGHT_DEPTHS, SPIKE_DEPTHS, PARAM_DEPTHS):
            try:
                configuration = Configuration(
                    f"{columns}x{lanes}{'-pairs' if pairs else ''}",
                    columns,
                    lanes,
                    *depths,
                    PROGRAM_DEPTH,
                    read_ports=ports,
                    fire_width=fire_width,
                    fabric_lanes=fabric,
                    pairs=pairs,
                    **dict.fromkeys(features, 1),
                )
            except ConfigurationError:
                continue
            if predict(configuration).fit(room):
                fitting.append((depths, configuration))
        for depths, configuration in fitting:
            if not any(_deeper(other, depths) for other, _ in fitting):
                yield configuration


def _deeper(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def search(
    network: Network,
    board: type[Board],
    executor: Executor,
    *,
    density: Density = DEFAULT_DENSITY,
    features: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Candidate]:
    """Predict a network on every configuration, and return those that it compiles for, the fastest first.

    Those that keep everything on the chip go before those that do not.

    Parameters
    ----------
    network
        What is to run.
    board
        Where.
    executor
        Compiles side by side: processes of this machine, or those of a Dask cluster.
    density
        Share of counts that are not zero; see `compile`.
    features
        What the network's neurons need of the fire units.
    progress
        Takes how many configurations are done, and of how many.
    """
    found: list[Candidate] = []
    every = list(configurations(board, features))
    # Several at a time, as the network goes along with each call.
    size = max(1, len(every) // CALLS)
    parts = [every[at : at + size] for at in range(0, len(every), size)]
    waiting = {executor.submit(_compile, network, part, density): part for part in parts}
    done = 0
    for future in as_completed(waiting):
        for configuration, taken in zip(waiting[future], future.result(), strict=True):
            if taken is not None:
                resources = predict(configuration)
                found.append(Candidate(configuration, resources, predict_fmax(board, resources), *taken))
        done += len(waiting[future])
        if progress is not None:
            progress(done, len(every))
    return sorted(found, key=_rank)


def _rank(candidate: Candidate) -> tuple[Any, ...]:
    return (not candidate.resident, -candidate.images_per_second, candidate.resources.lut, candidate.resources.bram)


def _compile(
    network: Network, configurations: Sequence[Configuration], density: Density
) -> list[tuple[int, bool] | None]:
    """Return the cycles on each configuration and whether all stays on the chip; None where it does not compile."""
    found: list[tuple[int, bool] | None] = []
    for configuration in configurations:
        try:
            program = compile(network, configuration, density=density)
        except (CompileError, MembraneOverflowError):
            found.append(None)
            continue
        found.append((program.setup_cycles() + program.cycles, program.resident))
    return found


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those of which no other is both as fast and as small, by look-up tables, the smallest first."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (each.resources.lut, *_rank(each))):
        if not best or (candidate.resident, candidate.images_per_second) > (
            best[-1].resident,
            best[-1].images_per_second,
        ):
            best.append(candidate)
    return best
