"""From tasks to steps: which maps stay in the spike memory, and which are cut in slabs and kept by the host.

An *item* is a list of steps that belong together: a group of layers whose maps stay on the chip, or a part of one layer
that is streamed. Items are packed into segments afterwards.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from polyspike.network import Input, Layer, MaxPool
from polyspike.spec import CompileError
from polyspike.spec.instructions import SHAPE, SOURCE, WINDOW, FireKind, PassMode, RandomValue

from .lowering import Division, Lowering, MapLayout, Span, Task, Term, spans, stages
from .memory import Buffer, allocate
from .program import Box, Download, Upload


def _limit(format_: object, name: str) -> int:
    return next(field for field in format_.fields if field.name == name).range.stop - 1  # type: ignore[attr-defined, no-any-return]


MAX_SIZE = _limit(SHAPE, "height")
MAX_WORDS = _limit(SOURCE, "pixel_pitch")
MAX_TILES = _limit(SHAPE, "tiles")
MAX_KERNEL = _limit(WINDOW, "kernel_h")
MAX_STRIDE = _limit(WINDOW, "stride_y")

#: A window is divided where that is predicted to take less than this share of the cycles. Events are not spread evenly
#: over a map, and the column that has the most of them takes longer than predicted.
WORTHWHILE = 0.9


@dataclasses.dataclass(frozen=True, eq=False)
class Launch:
    """One RUN of a task with everything placed in the spike memory.

    `sources` has a box for each pass in order, `output` the box that is written, whose words from `offset` on belong to
    the task's first tile. `leaves` is the complete box of the node's map that is then in memory, if any.
    """

    task: Task
    time: Span
    rows: Span
    pixels: Span
    sources: tuple[Box, ...]
    output: Box
    offset: int
    leaves: Box | None

    @property
    def placed_terms(self) -> list[tuple[Term, Box]]:
        """Each term with the box it reads."""
        return list(zip(self.task.terms, self.sources[self.task.passes - len(self.task.terms) :], strict=True))

    def pad(self, term: Term, box: Box) -> tuple[int, int]:
        """Rows and pixels of a term's window that lie before its box at the first output position."""
        if box.size == 0:
            return 0, 0
        return (
            box.rows[0] - (self.rows[0] * term.stride[0] - term.padding[0] + term.ky[0]),
            box.pixels[0] - (self.pixels[0] * term.stride[1] - term.padding[1] + term.kx[0]),
        )

    @property
    def sums_window(self) -> tuple[int, int]:
        """Rows and pixels of the map of partial sums that are added up for each output position."""
        _, height, width, _ = self.sources[0].shape
        return height - (self.rows[1] - self.rows[0]) + 1, width - (self.pixels[1] - self.pixels[0]) + 1

    @property
    def geometry(self) -> tuple[object, ...]:
        """What its instructions depend on, apart from weights and parameters: equal ones share instructions."""
        region = tuple(stop - start for start, stop in (self.time, self.rows, self.pixels))
        pads = tuple(self.pad(term, box) for term, box in self.placed_terms)
        draws = (self.rows, self.pixels) if self.task.kind is FireKind.PROBABILISTIC else ()
        return (
            id(self.task),
            region,
            pads,
            draws,
            tuple((box.shape, box.address) for box in (*self.sources, self.output)),
        )

    @property
    def positions(self) -> int:
        """Output positions that are computed."""
        return (self.rows[1] - self.rows[0]) * (self.pixels[1] - self.pixels[0])


ItemStep = Upload | Download | Launch


@dataclasses.dataclass(frozen=True, eq=False)
class Item:
    """Steps that stay together, the nodes they belong to, and why their maps are streamed (None: they are not).

    The RUNs after the first `input_launches` neither read the network's input nor write its words; 0 where that is not
    known.
    """

    steps: tuple[ItemStep, ...]
    nodes: tuple[str, ...]
    refusal: str | None
    input_launches: int = 0

    @property
    def launches(self) -> list[Launch]:
        """Its RUNs."""
        return [step for step in self.steps if isinstance(step, Launch)]


def instruction_count(task: Task) -> int:
    """Instructions of one RUN of a task."""
    random = len(RandomValue) if task.kind is FireKind.PROBABILISTIC else 0
    return 3 * task.passes + 4 + random


class Scheduler:
    """Cuts a lowered network into items. `cycles` predicts what a RUN takes."""

    def __init__(self, lowering: Lowering, cycles: Callable[[Launch], int]) -> None:
        self.lowering = lowering
        self.network = lowering.network
        self.configuration = lowering.configuration
        self.nodes: list[Layer | MaxPool] = [node for node in self.network if not isinstance(node, Input)]
        #: Host maps of partial sums.
        self.sums: dict[str, MapLayout] = {}
        #: How windows are divided among the columns, by node, where that is faster.
        self._divisions = {
            node.name: division for node in self.nodes if (division := self._fastest_division(node, cycles)) is not None
        }

    def items(self) -> Iterator[Item]:
        """Yield items in order: the longest groups that fit; layers that do not fit alone are streamed."""
        at = 0
        while at < len(self.nodes):
            size, group, refusal = 0, None, ""
            while at + size < len(self.nodes):
                found = self._group(self.nodes[at : at + size + 1])
                if isinstance(found, str):
                    refusal = found
                    break
                group, size = found, size + 1
            if group is not None:
                yield group
                at += size
            else:
                yield from self._stream(self.nodes[at], refusal)
                at += 1

    # Groups of layers that stay on the chip

    def _field_refusal(self, node: Layer | MaxPool) -> str | None:
        """Return why a node cannot be one RUN over whole maps, because a field of an instruction is too small."""
        lowering = self.lowering
        sources = [node.source] if isinstance(node, MaxPool) else [synapse.source for synapse in node.synapses]
        windows = [node] if isinstance(node, MaxPool) else list(node.synapses)
        for name in (*sources, node.name):
            layout = lowering.maps[name]
            if max(layout.height, layout.width) > MAX_SIZE or layout.words > MAX_WORDS:
                return f"map {name!r} has {layout.height} x {layout.width} pixels of {layout.words} words"
        if lowering.tile_count(node) > MAX_TILES:
            return f"{lowering.tile_count(node)} output tiles are too many for one instruction"
        for each in windows:
            if max(each.stride) > MAX_STRIDE and node.shape[1:] != (1, 1):
                return f"stride {each.stride} is too large for one instruction"
        return None

    def _group(self, nodes: Sequence[Layer | MaxPool]) -> Item | str:
        """Schedule consecutive nodes as `_resident` does; their windows are divided where that fits, too."""
        divided = self._resident(nodes, self._divisions)
        return divided if isinstance(divided, Item) else self._resident(nodes, {})

    def _fastest_division(self, node: Layer | MaxPool, cycles: Callable[[Launch], int]) -> Division | None:
        """Return the division of a node's window that takes the fewest cycles; None where none is worthwhile."""

        def total(divisions: Mapping[str, Division]) -> float:
            item = self._resident([node], divisions)
            return sum(map(cycles, item.launches)) if isinstance(item, Item) else math.inf

        found = {division: total({node.name: division}) for division in self.lowering.divisions(node)}
        best = min(found, key=found.__getitem__, default=None)
        return best if best is not None and found[best] < WORTHWHILE * total({}) else None

    def _resident(self, nodes: Sequence[Layer | MaxPool], divisions: Mapping[str, Division]) -> Item | str:
        """Schedule consecutive nodes with all their maps in the spike memory, or say why that does not fit."""
        lowering, c = self.lowering, self.configuration
        for node in nodes:
            refusal = self._field_refusal(node)
            if refusal:
                return refusal
        tasks: list[Task] = []
        sums: dict[str, MapLayout] = {}
        for node in nodes:
            division = divisions.get(node.name)
            for part, tiles in enumerate(lowering.tile_ranges(node)):
                groups: list[tuple[Term, ...]]
                if division is None:
                    terms: list[Term] = []
                    for term in lowering.terms(node, tiles):
                        split = lowering.split(term, lambda each: True)
                        if split is None or (isinstance(node, MaxPool) and len(split) > 1):
                            return f"the window of {node.name!r} is too large for one instruction"
                        terms += split
                    groups = stages(terms)
                else:
                    (term,) = lowering.terms(node, tiles)
                    groups = [(lowering.divided(term, division),), ()]
                names = [f"{node.name} (sums {part}.{index})" for index in range(len(groups))]
                chain = lowering.chain(node, tiles, groups, names.__getitem__)
                size = node.shape[1:] if division is None else division
                for task in chain[:-1]:
                    sums[task.output] = lowering.sums_layout(task.output, task.tile_count, *size)
                tasks += chain
        rows = sum(lowering.task_rows(task) for task in tasks)
        if rows > c.weight_depth:
            return f"weights need {rows} rows a column, of which there are {c.weight_depth}"
        params = sum(lowering.task_params(task) for task in tasks)
        if params > c.param_depth:
            return f"parameters need {params} channels a column, of which there are {c.param_depth}"
        count = sum(instruction_count(task) for task in tasks)
        if count > c.program_depth:
            return f"the program needs {count} instructions, of which there are {c.program_depth}"
        return self._place(nodes, tasks, sums)

    def _place(self, nodes: Sequence[Layer | MaxPool], tasks: list[Task], sums: dict[str, MapLayout]) -> Item | str:
        lowering = self.lowering
        inside = {node.name for node in nodes}
        layouts = {**lowering.maps, **sums}
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        final = {task.output: index for index, task in enumerate(tasks)}
        for index, task in enumerate(tasks):
            for name in [task.output, *reads(task)]:
                first.setdefault(name, index)
                last[name] = index
        source = self.network.input.name
        # A pixel of the input may be shorter than what an elementwise pass reads of it.
        buffers = [Buffer(name, layouts[name].size + (name == source), first[name], last[name]) for name in first]
        depth = self.configuration.spike_depth
        # Where there is room, nothing else lies where the input was, so that the next image can be sent early.
        kept = [dataclasses.replace(each, last=len(tasks) - 1) if each.name == source else each for each in buffers]
        addresses, used = allocate(kept)
        input_launches = last.get(source, -1) + 1
        if used > depth:
            addresses, used = allocate(buffers)
            input_launches = 0
        if used > depth:
            return f"maps need {used} words of spike memory, of which there are {depth}"
        boxes = {name: _whole(layouts[name], addresses[name]) for name in first}
        later = self._used_after(nodes[-1])
        steps: list[ItemStep] = []
        for index, task in enumerate(tasks):
            for name in dict.fromkeys(reads(task)):
                if first[name] == index and name not in inside and name not in sums:
                    steps.append(Upload(boxes[name]))
            done = task.output in inside and final[task.output] == index
            steps.append(
                Launch(
                    task,
                    (0, self.network.timesteps),
                    (0, layouts[task.output].height),
                    (0, layouts[task.output].width),
                    tuple(boxes[name] for name in reads(task)),
                    boxes[task.output],
                    0 if task.kind is FireKind.RAW else lowering.tile_words(task.node, task.tiles)[0],
                    boxes[task.output] if done else None,
                )
            )
            if done and task.output in later:
                steps.append(Download(boxes[task.output]))
        return Item(tuple(steps), tuple(node.name for node in nodes), None, input_launches)

    def _used_after(self, node: Layer | MaxPool) -> set[str]:
        """Return the maps that nodes after `node` read, and the network's output."""
        after = self.nodes[self.nodes.index(node) + 1 :]
        used = {self.network.output.name}
        for each in after:
            used |= {each.source} if isinstance(each, MaxPool) else {synapse.source for synapse in each.synapses}
        return used

    # Layers that are streamed

    def _stream(self, node: Layer | MaxPool, refusal: str) -> Iterator[Item]:
        """Cut one node by tiles, by fan-in and by positions, with all its maps kept by the host."""
        for task in self._stream_tasks(node):
            if task.kind is FireKind.RAW and task.output not in self.sums:
                tiles = self.lowering.tile_count(node)
                self.sums[task.output] = self.lowering.sums_layout(task.output, tiles, *node.shape[1:])
            blocks = self.configuration.program_depth // instruction_count(task)
            steps: list[ItemStep] = []
            seen: set[tuple[object, ...]] = set()
            for time, rows, pixels in self._slabs(task):
                slab = self._slab(task, time, rows, pixels)
                launch = next(step for step in slab if isinstance(step, Launch))
                key = launch.geometry
                if key not in seen and len(seen) == blocks:
                    yield Item(tuple(steps), (node.name,), refusal)
                    steps, seen = [], set()
                seen.add(key)
                steps += slab
            yield Item(tuple(steps), (node.name,), refusal)

    def _stream_tasks(self, node: Layer | MaxPool) -> list[Task]:
        tasks: list[Task] = []
        for tiles in self.lowering.tile_ranges(node):
            at = tiles[0]
            while at < tiles[1]:
                found = self._largest(node, at, tiles[1])
                tasks += found
                at = found[-1].tiles[1]
        return tasks

    def _largest(self, node: Layer | MaxPool, at: int, stop: int) -> list[Task]:
        """Return tasks for as many tiles from `at` on as fit with their whole fan-in, else for a few, in parts."""
        lowering, c = self.lowering, self.configuration
        name = f"{node.name} (sums)"
        sizes = [*range(lowering.align, stop - at, lowering.align), stop - at]
        for size in reversed(sizes):
            # Full rounds keep every column busy.
            if size > c.columns and size % c.columns and size != stop - at:
                continue
            tiles = (at, at + size)
            groups = stages(lowering.terms(node, tiles))
            if len(groups) == 1:
                (task,) = lowering.chain(node, tiles, groups, lambda _: name)
                if self._fits(task):
                    return [task]
        if isinstance(node, MaxPool):
            raise CompileError(
                f"layer {node.name!r}: one window of {node.window} does not fit the spike memory of configuration "
                f"{c.name!r} ({c.spike_depth} words); use a configuration with a larger spike_depth"
            )
        for size in reversed([s for s in sizes if s <= max(c.columns, lowering.align)]):
            tiles = (at, at + size)
            terms: list[Term] = []
            for term in lowering.terms(node, tiles):

                def fits(part: Term, tiles: Span = tiles) -> bool:
                    return self._fits(Task(node, tiles, name, (part,), FireKind.RAW, name))

                parts = lowering.split(term, fits)
                if parts is None:
                    break
                terms += parts
            else:
                # Firing needs all timesteps at once. Where they leave no room for a term, sums alone are fired.
                alone: list[tuple[Term, ...]] = [(term,) for term in terms]
                for each in (alone, [*alone, ()]):
                    tasks = lowering.chain(node, tiles, each, lambda _: name)
                    if self._fits(tasks[-1]):
                        return tasks
        raise CompileError(
            f"layer {node.name!r}: {self.network.timesteps} timesteps of one position do not fit the spike memory of "
            f"configuration {c.name!r} ({c.spike_depth} words); use fewer timesteps or a larger spike_depth"
        )

    def _fits(self, task: Task) -> bool:
        """Whether a task can compute at least one position with what is on the chip."""
        c = self.configuration
        if task.tile_count > MAX_TILES:
            return False
        for term in task.terms:
            if term.words[1] - term.words[0] > MAX_WORDS or max(term.kernel) > MAX_KERNEL:
                return False
        if self.lowering.task_rows(task) > c.weight_depth or self.lowering.task_params(task) > c.param_depth:
            return False
        start, stop = self._output_words(task)
        return stop - start <= MAX_WORDS and self._footprint(task, self._least_time(task), 1, 1) <= c.spike_depth

    def _output_words(self, task: Task) -> Span:
        if task.kind is FireKind.RAW:
            return self._sums_words(task)
        return self.lowering.tile_words(task.node, task.tiles)

    def _sums_words(self, task: Task) -> Span:
        half = self.lowering.lanes // 2
        return task.tiles[0] * half, task.tiles[1] * half

    def _least_time(self, task: Task) -> int:
        """Fewest timesteps that one RUN can compute: a membrane is carried through all of them, sums are not."""
        return 1 if task.kind is FireKind.RAW else self.network.timesteps

    def _footprint(self, task: Task, timesteps: int, rows: int, pixels: int) -> int:
        """Words of spike memory that a slab of so many timesteps, output rows and pixels needs at most."""
        total = 0
        for term in task.terms:
            layout = self.lowering.maps[term.source]
            height = min((rows - 1) * term.stride[0] + term.kernel[0], layout.height)
            width = min((pixels - 1) * term.stride[1] + term.kernel[1], layout.width)
            # One word more, because an elementwise pass may read past a short pixel of the input.
            total += min(layout.timesteps, timesteps) * height * width * (term.words[1] - term.words[0]) + 1
        if task.sums is not None:
            start, stop = self._sums_words(task)
            total += timesteps * rows * pixels * (stop - start)
        start, stop = self._output_words(task)
        return total + (1 if task.kind is FireKind.MEMBRANE else timesteps) * rows * pixels * (stop - start)

    def _slabs(self, task: Task) -> Iterator[tuple[Span, Span, Span]]:
        """Cut the output in the largest slabs that fit: of rows, of pixels of one row, or of timesteps of one pixel."""
        _, height, width = task.node.shape
        depth = self.configuration.spike_depth
        times = range(self._least_time(task), self.network.timesteps + 1)
        timesteps = max(n for n in times if self._footprint(task, n, 1, 1) <= depth)

        def fits(rows: int, pixels: int) -> bool:
            if self._footprint(task, timesteps, rows, pixels) > depth or max(rows, pixels) > MAX_SIZE:
                return False
            for term in task.terms:
                layout = self.lowering.maps[term.source]
                for axis, count, size in ((0, rows, layout.height), (1, pixels, layout.width)):
                    if count > 1 and term.stride[axis] > MAX_STRIDE:
                        return False
                    if min((count - 1) * term.stride[axis] + term.kernel[axis], size) > MAX_SIZE:
                        return False
            return True

        rows = max((n for n in range(1, height + 1) if fits(n, width)), default=1)
        pixels = width if fits(rows, width) else max((n for n in range(1, width + 1) if fits(1, n)), default=1)
        for row_span in spans((0, height), rows):
            for pixel_span in spans((0, width), pixels):
                for time_span in spans((0, self.network.timesteps), timesteps):
                    yield time_span, row_span, pixel_span

    def _slab(self, task: Task, time: Span, rows: Span, pixels: Span) -> list[ItemStep]:
        """Place one slab: upload what it reads, run, download what it wrote."""
        at = 0
        boxes: list[Box] = []
        if task.sums is not None:
            boxes.append(Box(task.sums, time, rows, pixels, self._sums_words(task), at))
            at += boxes[-1].size
        for term in task.terms:
            layout = self.lowering.maps[term.source]
            boxes.append(
                Box(
                    term.source,
                    time if layout.timesteps > 1 else (0, 1),
                    term.input_span(0, rows, layout.height),
                    term.input_span(1, pixels, layout.width),
                    term.words,
                    at,
                )
            )
            at += boxes[-1].size + (term.mode is not PassMode.BROADCAST)
        written = (0, 1) if task.kind is FireKind.MEMBRANE else time
        output = Box(task.output, written, rows, pixels, self._output_words(task), at)
        leaves = None if task.kind is FireKind.RAW else output
        uploads = [Upload(box) for box in boxes if box.size]
        return [*uploads, Launch(task, time, rows, pixels, tuple(boxes), output, 0, leaves), Download(output)]


def reads(task: Task) -> list[str]:
    """Return the maps that the passes of a task read, in order."""
    return [*([task.sums] if task.sums is not None else []), *(term.source for term in task.terms)]


def _whole(layout: MapLayout, address: int) -> Box:
    return Box(layout.name, (0, layout.timesteps), (0, layout.height), (0, layout.width), (0, layout.words), address)
