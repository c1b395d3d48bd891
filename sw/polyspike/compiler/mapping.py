"""The cost model, and the choices it makes: do columns hold different tiles, or share one and divide its positions? And
do they work on positions one by one, or in pairs, where the configuration has them?

Predicted cycles of one RUN with `G` groups of `P` columns::

    ceil(tiles / G) * ceil(positions / P) * timesteps * max(events, walk, port, fire, writes) + overhead

per position and timestep of a column. `events` are the expected additions: density * channels at each tap inside the
map for BROADCAST, one a word otherwise. `walk` are the cycles to name the words: one for each, or more for sums, and
some for each tap inside the map, each row above it and tap left of it, each pass, and each position. `port` are the
cycles the column's port takes for the words of all its columns, and one; columns that hold different tiles of one
position are served together, unless their words differ by tile. `fire` are the cycles to fire a tile (with several
timesteps until it has left the pipeline, because the next timestep needs its membrane), and `writes` the words that all
columns together write. Density is the share of counts that are not zero: assumed, or what was measured.

In pairs, the formula counts pairs instead of positions. Either count of a pair makes an event for both: at a tap that
both positions have inside the map, the share of counts a stride apart of which either is not zero. Elementwise words
are events of one position each, as ever. The walk names the words of both, but takes its other cycles only once; where
a pixel is one word and the stride is 1, a word that both positions see is named, and fetched, only once. Two tiles are
fired one after the other, and the words of both written.

A compact column takes two cycles at least for a word, and an event for each nonzero count of an elementwise word, for
each lane of one to take maxima of, and for each raw sum; handing a sum over takes it a cycle a lane, and firing several
cycles a lane. Where a configuration has pairs, a word of raw sums takes two cycles, too. Probabilistic neurons, of any
column, take some cycles for each number that is drawn.
"""

import math
from collections.abc import Sequence

from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import FireKind, PassMode

from .density import Density, share_of
from .lowering import Lowering, Span, Task
from .program import INSTRUCTION_CYCLES
from .schedule import MAX_STRIDE, MAX_WORDS, Launch, instruction_count

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


def can_pair(lowering: Lowering, launch: Launch) -> bool:
    """Whether a RUN can work on pairs of positions: what `polyspike.spec.instructions` asks for is so."""
    c, task = lowering.configuration, launch.task
    output_pitch = 2 * launch.output.shape[3]
    if not c.pairs or task.sums is not None or task.kind is FireKind.PROBABILISTIC:
        return False
    if (launch.pixels[1] - launch.pixels[0]) % 2 or output_pitch > MAX_WORDS or output_pitch >= c.spike_depth:
        return False
    for term, box in launch.placed_terms:
        _, _, width, pitch = box.shape
        stride = term.stride[1]
        if lowering.maps[term.source].bits != 4 or term.synapse is None:
            return False
        if term.mode is PassMode.BROADCAST and term.synapse.shift > 1:
            return False
        if box.size == 0 or stride > width or 2 * stride > MAX_STRIDE or 2 * stride * pitch >= c.spike_depth:
            return False
    return True


def fastest(lowering: Lowering, launch: Launch, position_log2: int, density: Density) -> tuple[int, bool]:
    """Return the fewest predicted cycles of one RUN with some mapping, and whether that is in pairs of positions."""
    options = (False, True) if can_pair(lowering, launch) else (False,)
    return min((launch_cycles(lowering, launch, position_log2, density, pairs), pairs) for pairs in options)


def _taps(
    outputs: Span, together: int, taps: Span, stride: int, padding: int, size: int
) -> tuple[float, float, float, float]:
    """Return averages over outputs, of which so many are worked on together, along one axis of a map of `size`.

    They are pixels inside the map, taps of the window that are inside for at least one output, taps before it, and
    pixels that are new: not the first output's at a tap if they were the second one's at the tap before.
    """
    pixels = inside = before = new = 0
    for out in range(*outputs, together):
        for tap in range(*taps):
            places = [each * stride - padding + tap for each in range(out, out + together)]
            count = sum(0 <= place < size for place in places)
            pixels += count
            inside += count > 0
            before += places[-1] < 0
            new += count - (count > 1 and stride == 1 and tap > taps[0])
    groups = (outputs[1] - outputs[0]) // together
    return pixels / groups, inside / groups, before / groups, new / groups


def launch_cycles(lowering: Lowering, launch: Launch, position_log2: int, density: Density, pairs: bool) -> int:
    """Return the predicted cycles of one RUN, of positions one by one or in pairs."""
    c = lowering.configuration
    task = launch.task
    together = 2 if pairs else 1
    # Words of a position that all tiles read, and those that each tile has for itself.
    events = common = own = 0.0
    steps = launch.time[1] - launch.time[0]
    walk = POSITION_CYCLES / steps
    if task.sums is not None:
        taps = math.prod(launch.sums_window)
        own = taps * lowering.lanes / 2
        events = own * 2 if c.compact or c.pairs else own
        walk += PASS_CYCLES + TAP_CYCLES * taps + SUMS_CYCLES * own
    for term in task.terms:
        layout = lowering.maps[term.source]
        (_, rows, above, _), (pixels, columns, left, new) = (
            _taps(span, count, taps, term.stride[axis], term.padding[axis], size)
            for axis, span, count, taps, size in (
                (0, launch.rows, 1, term.ky, layout.height),
                (1, launch.pixels, together, term.kx, layout.width),
            )
        )
        inside = rows * pixels
        words, share = lowering.term_words(term), share_of(density, term.source)
        fetched = rows * (new if words == 1 and term.mode is PassMode.BROADCAST else pixels) * words
        walk += PASS_CYCLES + TAP_CYCLES * rows * columns + fetched + SKIP_CYCLES * (above + rows * left)
        if term.mode is PassMode.BROADCAST:
            common += fetched
            channels = lowering.network[term.source].shape[0]
            per_word = WORD_BITS // layout.bits
            counts = min(term.words[1] * per_word, channels) - term.words[0] * per_word
            # Both positions of a pair have `pixels - columns` taps inside the map.
            both = pixels - columns
            events += rows * counts * ((pixels - 2 * both) * share.one + both * share.either(term.stride[1]))
        else:
            counted = share.one if term.mode is PassMode.ELEMENTWISE else 1.0
            events += inside * lowering.lanes * counted if c.compact else fetched
            own += fetched
    positions = launch.positions // together
    groups = c.columns >> position_log2
    members = min(1 << position_log2, positions)
    busy = min(groups, task.tile_count) * members
    port = 1 + common * max(1.0, members / c.read_ports) + own * max(1.0, busy / c.read_ports)
    bits = 32 if task.kind in (FireKind.RAW, FireKind.MEMBRANE) else lowering.maps[task.node.name].bits
    if c.compact:
        port = 2 * (common + own)
        events += lowering.lanes
        each = COMPACT_FIRE_LATENCY + bits if task.kind is FireKind.SPIKE else COMPACT_VALUE_CYCLES
        fire = lowering.lanes * each
    else:
        fire = together * lowering.lanes / c.fire_width + (2 if c.pairs else 1)
        if lowering.network.timesteps > 1:
            fire += FIRE_LATENCY + c.count_bits
    if task.kind is FireKind.PROBABILISTIC:
        draw = (lowering.lanes + 1) * DRAW_CYCLES + RANDOM_TIME_CYCLES
        begin = lowering.lanes + RANDOM_POSITION_CYCLES
        fire = max(fire, draw + begin / steps, members * DEAL_CYCLES / steps)
    writes = together * busy * max(1.0, lowering.lanes * bits / WORD_BITS)
    rounds = lowering.rounds(task, position_log2) * -(-positions >> position_log2)
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
    return INSTRUCTION_CYCLES * instruction_count(task) + min(fastest(lowering, launch, p, density)[0] for p in free)


def choose(lowering: Lowering, launches: Sequence[Launch], density: Density) -> dict[Task, int]:
    """Choose `position_log2` of every task of a segment.

    Starts with the fastest mapping of each task. While weights or parameters do not fit, the task that loses the fewest
    cycles for each row or channel saved gives up copies.
    """
    c = lowering.configuration
    options = range(c.columns.bit_length())
    costs: dict[Task, list[int]] = {}
    for launch in launches:
        cycles = [fastest(lowering, launch, p, density)[0] for p in options]
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
