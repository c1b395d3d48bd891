"""The cost model, and the choice it makes: do columns hold different tiles, or share one and divide its positions?

Predicted cycles of one RUN with `G` groups of `P` columns::

    ceil(tiles / G) * ceil(positions / P) * timesteps * max(events, walk, port, fire, writes) + overhead

per position and timestep of a column. `events` are the expected additions: density * channels at each tap inside the
map for BROADCAST, one a word otherwise. `walk` are the cycles to name the words: one for each, or more for sums, and
some for each tap inside the map, each row above it and tap left of it, each pass, and each position. `port` are the
cycles the column's port takes for the words of all its columns, and one; columns that hold different tiles of one
position are served together, unless their words differ by tile. `fire` are the cycles to fire a tile (with several
timesteps until it has left the pipeline, because the next timestep needs its membrane), and `writes` the words that all
columns together write. Density is the share of counts that are not zero: 0.5, or what was measured.

A compact column takes two cycles at least for a word, and an event for each nonzero count of an elementwise word, for
each lane of one to take maxima of, and for each raw sum; handing a sum over takes it a cycle a lane, and firing several
cycles a lane. Probabilistic neurons, of any column, take some cycles for each number that is drawn.
"""

import math
from collections.abc import Mapping, Sequence

from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import FireKind, PassMode

from .lowering import Lowering, Task
from .program import INSTRUCTION_CYCLES
from .schedule import Launch, instruction_count

DEFAULT_DENSITY = 0.5

#: Cycles that the walk over a window takes besides one a word: for each tap inside the map, for each row above it or
#: tap left of it, for each pass, and for each position.
TAP_CYCLES, SKIP_CYCLES, PASS_CYCLES, POSITION_CYCLES = 2, 3, 2, 1

#: Cycles from one word of sums to the next: no more words are on their way to a column than its queue has room for.
SUMS_CYCLES = 1.4

#: Cycles to start a RUN and to let its last position leave the pipeline, and those that each column adds.
OVERHEAD, COLUMN_OVERHEAD = 100, 2

#: Cycles from a sum to its fired counts, besides one for each bit of the widest count.
FIRE_LATENCY = 8

#: The same of a compact column's lane: reading sum, bias and membrane, packing a count, and sometimes a reset.
COMPACT_FIRE_LATENCY = 4.5

#: Cycles a compact column takes to pack a membrane or a raw sum, nibble by nibble.
COMPACT_VALUE_CYCLES = 11

#: Cycles of random firing: for each lane and one more, besides for a timestep, and for a position besides one a lane.
DRAW_CYCLES, RANDOM_TIME_CYCLES, RANDOM_POSITION_CYCLES = 9, 3, 34

#: Cycles from one position to the next where numbers are drawn for it.
DEAL_CYCLES = 35

Density = float | Mapping[str, float]


def density_of(density: Density, name: str) -> float:
    """Return the density of a map: measured, or assumed where it was not."""
    if isinstance(density, Mapping):
        return density.get(name, DEFAULT_DENSITY)
    return density


def launch_cycles(lowering: Lowering, launch: Launch, position_log2: int, density: Density) -> int:
    """Return the predicted cycles of one RUN."""
    c = lowering.configuration
    task = launch.task
    # Words of a position that all tiles read, and those that each tile has for itself.
    events = common = own = 0.0
    steps = launch.time[1] - launch.time[0]
    walk = POSITION_CYCLES / steps
    if task.sums is not None:
        taps = math.prod(launch.sums_window)
        own = taps * lowering.lanes / 2
        events = own * 2 if c.compact else own
        walk += PASS_CYCLES + TAP_CYCLES * taps + SUMS_CYCLES * own
    for term in task.terms:
        layout = lowering.maps[term.source]
        # Rows and columns of the window, on average, that are inside the map, and that are before its first one.
        within, before = [1.0, 1.0], [0.0, 0.0]
        for axis, span, size in ((0, launch.rows, layout.height), (1, launch.pixels, layout.width)):
            first, stop = (term.ky, term.kx)[axis]
            places = [
                out * term.stride[axis] - term.padding[axis] + k for out in range(*span) for k in range(first, stop)
            ]
            within[axis] = sum(0 <= place < size for place in places) / (span[1] - span[0])
            before[axis] = sum(place < 0 for place in places) / (span[1] - span[0])
        inside = within[0] * within[1]
        fetched = inside * lowering.term_words(term)
        walk += PASS_CYCLES + TAP_CYCLES * inside + fetched + SKIP_CYCLES * (before[0] + within[0] * before[1])
        if term.mode is PassMode.BROADCAST:
            common += fetched
            channels = lowering.network[term.source].shape[0]
            per_word = WORD_BITS // layout.bits
            counts = min(term.words[1] * per_word, channels) - term.words[0] * per_word
            events += inside * counts * density_of(density, term.source)
        else:
            share = density_of(density, term.source) if term.mode is PassMode.ELEMENTWISE else 1.0
            events += inside * lowering.lanes * share if c.compact else fetched
            own += fetched
    positions = 1 << position_log2
    groups = c.columns // positions
    members = min(positions, launch.positions)
    busy = min(groups, task.tile_count) * members
    port = 1 + common * max(1.0, members / c.read_ports) + own * max(1.0, busy / c.read_ports)
    bits = 32 if task.kind in (FireKind.RAW, FireKind.MEMBRANE) else lowering.maps[task.node.name].bits
    if c.compact:
        port = 2 * (common + own)
        events += lowering.lanes
        each = COMPACT_FIRE_LATENCY + bits if task.kind is FireKind.SPIKE else COMPACT_VALUE_CYCLES
        fire = lowering.lanes * each
    else:
        fire = lowering.lanes / c.fire_width + 1
        if lowering.network.timesteps > 1:
            fire += FIRE_LATENCY + c.count_bits
    if task.kind is FireKind.PROBABILISTIC:
        draw = (lowering.lanes + 1) * DRAW_CYCLES + RANDOM_TIME_CYCLES
        begin = lowering.lanes + RANDOM_POSITION_CYCLES
        fire = max(fire, draw + begin / steps, members * DEAL_CYCLES / steps)
    writes = busy * max(1.0, lowering.lanes * bits / WORD_BITS)
    rounds = lowering.rounds(task, position_log2) * -(-launch.positions // positions)
    overhead = OVERHEAD + COLUMN_OVERHEAD * c.columns
    return overhead + round(rounds * steps * max(events, walk, port, fire, writes))


def least_cycles(lowering: Lowering, launch: Launch, density: Density) -> int:
    """Return the predicted cycles of one RUN, its instructions included, however full its segment is.

    Only mappings for which no column needs more weight rows are looked at: those are never given up by `choose`.
    """
    task = launch.task
    rounds = lowering.rounds(task)
    options = range(lowering.configuration.columns.bit_length())
    free = [p for p in options if lowering.rounds(task, p) == rounds]
    return INSTRUCTION_CYCLES * instruction_count(task) + min(launch_cycles(lowering, launch, p, density) for p in free)


def choose(lowering: Lowering, launches: Sequence[Launch], density: Density) -> dict[Task, int]:
    """Choose `position_log2` of every task of a segment.

    Starts with the fastest mapping of each task. While weights or parameters do not fit, the task that loses the fewest
    cycles for each row or channel saved gives up copies.
    """
    c = lowering.configuration
    options = range(c.columns.bit_length())
    costs: dict[Task, list[int]] = {}
    for launch in launches:
        cycles = [launch_cycles(lowering, launch, p, density) for p in options]
        known = costs.get(launch.task, [0] * len(options))
        costs[launch.task] = [a + b for a, b in zip(known, cycles, strict=True)]
    chosen = {
        task: min(options, key=lambda p: (cycles[p], lowering.task_rows(task, p), p)) for task, cycles in costs.items()
    }
    for need, depth in ((lowering.task_rows, c.weight_depth), (lowering.task_params, c.param_depth)):
        while sum(need(task, p) for task, p in chosen.items()) > depth:
            best: tuple[float, int, int] | None = None
            tasks = list(chosen)
            for index, task in enumerate(tasks):
                for p in range(chosen[task]):
                    saved = need(task, chosen[task]) - need(task, p)
                    if saved > 0:
                        lost = (costs[task][p] - costs[task][chosen[task]]) / saved
                        best = min(best, (lost, index, p)) if best else (lost, index, p)
            assert best is not None, "a segment was packed that does not fit"
            chosen[tasks[best[1]]] = best[2]
    return chosen
