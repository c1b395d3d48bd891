"""From nodes of the network to tasks: what one RUN adds up and fires, before anything is placed in a memory."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyspike.network import Input, Layer, MaxPool, Network, Node, Synapse
from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, WINDOW, FireKind, PassMode, RandomValue
from polyspike.spec.lfsr import advance, jump_over

from .words import words_per_pixel

Span = tuple[int, int]

#: Parts of a window, one beside the other: rows of them, and parts in a row.
Division = tuple[int, int]

_LARGEST_KERNEL, _LARGEST_STRIDE = (
    next(field for field in WINDOW.fields if field.name == name).range.stop - 1 for name in ("kernel_h", "stride_y")
)


@dataclasses.dataclass(frozen=True)
class MapLayout:
    """How a map lies in memory: [timesteps][height][width][words]. `bits` is 32 for membranes and sums."""

    name: str
    timesteps: int
    height: int
    width: int
    words: int
    bits: int
    #: largest positive count
    n_pos: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Size on each axis, in words."""
        return self.timesteps, self.height, self.width, self.words

    @property
    def size(self) -> int:
        """Number of words."""
        return self.timesteps * self.height * self.width * self.words


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """One pass of a task: a part of a synapse, or of a pooling window.

    `words` are words of a source pixel, `ky` and `kx` rows and columns of the kernel; all half-open.
    """

    source: str
    mode: PassMode
    words: Span
    ky: Span
    kx: Span
    stride: tuple[int, int]
    padding: tuple[int, int]
    synapse: Synapse | None

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return self.ky[1] - self.ky[0], self.kx[1] - self.kx[0]

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def shared(self) -> bool:
        """Whether all taps use the same weights."""
        return self.synapse is not None and self.synapse.shared

    def input_span(self, axis: int, outputs: Span, size: int) -> Span:
        """Rows (axis 0) or pixels (axis 1) of a source of `size` that a span of outputs sees; may be empty."""
        first = (self.ky, self.kx)[axis]
        start = outputs[0] * self.stride[axis] - self.padding[axis] + first[0]
        stop = (outputs[1] - 1) * self.stride[axis] - self.padding[axis] + first[1]
        start, stop = min(max(start, 0), size), min(max(stop, 0), size)
        return start, max(start, stop)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What one RUN does: passes over some tiles of a node, then a fire.

    `sums` names the map of partial sums that are continued, and `output` the map that is written. A map of sums that is
    larger than the output has a pixel for each part of a divided window, and all of them are added up.
    """

    node: Layer | MaxPool
    tiles: Span
    sums: str | None
    terms: tuple[Term, ...]
    kind: FireKind
    output: str

    @property
    def tile_count(self) -> int:
        """Number of tiles."""
        return self.tiles[1] - self.tiles[0]

    @property
    def passes(self) -> int:
        """Passes, the one over partial sums included."""
        return len(self.terms) + (self.sums is not None)


class Lowering:
    """A network seen with the lanes of a configuration: layouts of maps, terms and weight rows."""

    def __init__(self, network: Network, configuration: Configuration) -> None:
        self.configuration = configuration
        self.lanes = configuration.lanes
        #: Tiles that must stay together so that they start on a whole word.
        self.align = 2 if self.lanes == 8 else 1
        #: Names of nodes that stand for a part of another one, and of that one.
        self._owners: dict[str, str] = {}
        self.network = self._split_pools(network)
        self.maps = {node.name: self._layout(node) for node in self.network}

    def owner(self, name: str) -> str:
        """Return the node of the network that a node of the lowered network belongs to."""
        return self._owners.get(name, name)

    def _split_pools(self, network: Network) -> Network:
        """Pool by rows first and by pixels then, where a whole window is too large for an instruction or the memory."""
        nodes: list[Node] = []
        for node in network:
            if isinstance(node, MaxPool) and self._too_large(node, network.counts(node.name).bits):
                rows = f"{node.name} (rows)"
                self._owners[rows] = node.name
                shape = (node.shape[0], node.shape[1], network[node.source].shape[2])
                (kh, kw), (sy, sx), (py, px) = node.window, node.stride, node.padding
                nodes.append(MaxPool(rows, shape, node.source, (kh, 1), (sy, 1), (py, 0)))
                node = dataclasses.replace(node, source=rows, window=(1, kw), stride=(1, sx), padding=(0, px))
            nodes.append(node)
        return network.replace(nodes=tuple(nodes))

    def _too_large(self, pool: MaxPool, bits: int) -> bool:
        kh, kw = pool.window
        words = -(-min(self.align * self.lanes, pool.shape[0]) * bits // WORD_BITS)
        footprint = (kh * kw + 1) * words + 1
        return kh > 1 < kw and (max(kh, kw) > _LARGEST_KERNEL or footprint > self.configuration.spike_depth)

    def tile_count(self, node: Node) -> int:
        """Tiles that hold the node's channels."""
        return -(-node.shape[0] // self.lanes)

    def tile_words(self, node: Layer | MaxPool, tiles: Span) -> Span:
        """Words of an output pixel that some tiles write. `tiles` starts at a multiple of `align`."""
        bits = self.maps[node.name].bits
        return tiles[0] * self.lanes * bits // WORD_BITS, -(-tiles[1] * self.lanes * bits // WORD_BITS)

    def sums_layout(self, name: str, tiles: int, height: int, width: int) -> MapLayout:
        """Layout of a map of partial sums of so many tiles."""
        return MapLayout(name, self.network.timesteps, height, width, tiles * self.lanes // 2, 32, 0)

    def _layout(self, node: Node) -> MapLayout:
        channels, height, width = node.shape
        if isinstance(node, Layer) and node.neuron is None:
            return MapLayout(node.name, 1, height, width, self.tile_count(node) * self.lanes // 2, 32, 0)
        counts = self.network.counts(node.name)
        if isinstance(node, Input):
            # An image is the same at every timestep, so it is stored once.
            words = words_per_pixel(channels, counts.bits)
            return MapLayout(node.name, node.bins or 1, height, width, words, counts.bits, counts.n_pos)
        words = -(-self.tile_count(node) * self.lanes * counts.bits // WORD_BITS)
        return MapLayout(node.name, self.network.timesteps, height, width, words, counts.bits, counts.n_pos)

    # Terms

    def tile_ranges(self, node: Layer | MaxPool) -> list[Span]:
        """Cut a node's tiles where a grouped convolution sees other words of its source."""
        tiles = self.tile_count(node)
        starts = range(0, tiles, self.align)
        units = [(start, min(start + self.align, tiles)) for start in starts]
        if isinstance(node, MaxPool) or all(synapse.depthwise or synapse.groups == 1 for synapse in node.synapses):
            return [(0, tiles)]
        grouped = [synapse for synapse in node.synapses if not synapse.depthwise]
        ranges = []
        for _, run in itertools.groupby(units, key=lambda unit: [self._words(node, s, unit) for s in grouped]):
            members = list(run)
            ranges.append((members[0][0], members[-1][1]))
        return ranges

    def terms(self, node: Layer | MaxPool, tiles: Span) -> list[Term]:
        """Return whole terms, one a synapse, of some tiles."""
        if isinstance(node, MaxPool):
            words = self._own_words(node.source, tiles)
            (kh, kw) = node.window
            return [Term(node.source, PassMode.MAXIMUM, words, (0, kh), (0, kw), node.stride, node.padding, None)]
        return [
            Term(
                synapse.source,
                PassMode.ELEMENTWISE if synapse.depthwise else PassMode.BROADCAST,
                self._words(node, synapse, tiles),
                (0, synapse.window[0]),
                (0, synapse.window[1]),
                synapse.stride,
                synapse.padding,
                synapse,
            )
            for synapse in node.synapses
        ]

    def _own_words(self, source: str, tiles: Span) -> Span:
        """Words of a source pixel that hold the channels of some output tiles themselves."""
        layout = self.maps[source]
        per_word = WORD_BITS // layout.bits
        return tiles[0] * self.lanes // per_word, min(-(-tiles[1] * self.lanes // per_word), layout.words)

    def _words(self, node: Layer, synapse: Synapse, tiles: Span) -> Span:
        """Words of a source pixel that a synapse needs for some output tiles."""
        if synapse.depthwise:
            return self._own_words(synapse.source, tiles)
        per_word = WORD_BITS // self.maps[synapse.source].bits
        outputs, inputs = node.shape[0] // synapse.groups, synapse.weight.shape[1]
        first = tiles[0] * self.lanes // outputs
        last = (min(tiles[1] * self.lanes, node.shape[0]) - 1) // outputs
        return first * inputs // per_word, -(-(last + 1) * inputs // per_word)

    def term_words(self, term: Term) -> int:
        """Words that one tile reads at each tap."""
        if term.mode is PassMode.BROADCAST:
            return term.words[1] - term.words[0]
        return -(-self.lanes * self.maps[term.source].bits // WORD_BITS)

    def term_rows(self, term: Term) -> int:
        """Weight rows of one tile."""
        if term.mode is PassMode.MAXIMUM:
            return 0
        taps = 1 if term.shared else term.taps
        if term.mode is PassMode.ELEMENTWISE:
            return taps
        return taps * self.term_words(term) * WORD_BITS // self.maps[term.source].bits

    def rounds(self, task: Task, position_log2: int = 0) -> int:
        """Times that the groups of columns go over a task's tiles; fewest where each column has its own tiles."""
        return -(-task.tile_count // (self.configuration.columns >> position_log2))

    def task_rows(self, task: Task, position_log2: int = 0) -> int:
        """Weight rows of a task in each column."""
        return self.rounds(task, position_log2) * sum(self.term_rows(term) for term in task.terms)

    def task_params(self, task: Task, position_log2: int = 0) -> int:
        """Channels whose parameters a task has in each column."""
        return 0 if task.kind is FireKind.RAW else self.rounds(task, position_log2) * self.lanes

    def weight_rows(self, term: Term, tile: int) -> NDArray[np.int8]:
        """Return a tile's weight rows, int8 [term_rows, lanes]. Lanes without a channel have weight 0."""
        synapse = term.synapse
        assert synapse is not None
        channels = np.arange(tile * self.lanes, min((tile + 1) * self.lanes, synapse.weight.shape[0]))
        kernel = (slice(None), slice(None)) if term.shared else (slice(*term.ky), slice(*term.kx))
        weight = synapse.weight[channels][(slice(None), slice(None), *kernel)]
        if term.mode is PassMode.ELEMENTWISE:
            rows = weight[:, 0].reshape(len(channels), -1).T
        else:
            per_word = WORD_BITS // self.maps[term.source].bits
            first, stop = (word * per_word for word in term.words)
            inputs = weight.shape[1]
            dense = np.zeros((len(channels), stop - first, *weight.shape[2:]), np.int8)
            for at, channel in enumerate(channels):
                start = channel // (synapse.weight.shape[0] // synapse.groups) * inputs
                low, high = max(start, first), min(start + inputs, stop)
                if low < high:
                    dense[at, low - first : high - first] = weight[at, low - start : high - start]
            rows = dense.transpose(2, 3, 1, 0).reshape(-1, len(channels))
        full = np.zeros((len(rows), self.lanes), np.int8)
        full[:, : len(channels)] = rows
        return full

    def parameters(self, task: Task, tile: int) -> tuple[NDArray[np.int64], ...]:
        """Return theta, bias, v0, and theta_neg or a jump, of a tile, int64 [lanes] each.

        Lanes without a channel emit nothing.
        """
        theta = np.ones(self.lanes, np.int64)
        bias, v0, fourth = (np.zeros(self.lanes, np.int64) for _ in range(3))
        node = task.node
        if isinstance(node, Layer):
            channels = slice(tile * self.lanes, min((tile + 1) * self.lanes, node.shape[0]))
            used = slice(0, channels.stop - channels.start)
            bias[used] = node.bias[channels]
            if node.neuron is not None:
                theta[used], v0[used] = node.neuron.theta[channels], node.neuron.v0[channels]
                fourth[used] = node.neuron.negative_threshold[channels]
                if node.neuron.lfsr is not None:
                    fourth[0] = jump_over(channels.start, node.neuron.lfsr.taps)
        return theta, bias, v0, fourth

    def random_values(self, node: Layer, rows: Span, pixels: Span) -> dict[RandomValue, int]:
        """Return what RANDOM sets for some rows of a probabilistic layer, or some pixels of one row."""
        assert node.neuron is not None and node.neuron.lfsr is not None
        lfsr, (channels, _, width) = node.neuron.lfsr, node.shape
        assert pixels == (0, width) or rows[1] - rows[0] == 1, "positions must follow each other"
        each = self.network.timesteps * channels  # draws of a position
        before = jump_over((rows[0] * width + pixels[0]) * each, lfsr.taps)
        return {
            RandomValue.TAPS: lfsr.taps,
            RandomValue.FIRST: advance(lfsr.seed, before, lfsr.taps),
            RandomValue.POSITION: jump_over(each, lfsr.taps),
            RandomValue.TIMESTEP: jump_over(channels, lfsr.taps),
        }

    # Windows divided among columns

    def divisions(self, node: Layer | MaxPool) -> list[Division]:
        """Return the ways to divide a node's only window into equal parts that columns sum up side by side.

        There are none where columns have other positions or tiles to do, and where taps have weights of their own:
        columns that divide positions have the same weights.
        """
        if isinstance(node, MaxPool) or len(node.synapses) > 1 or not node.synapses[0].shared:
            return []
        if node.shape[1:] != (1, 1) or 2 * self.tile_count(node) > self.configuration.columns:
            return []
        rows, columns = (
            [
                parts
                for parts in range(1, min(size, _LARGEST_KERNEL) + 1)
                if size % parts == 0 and size // parts <= (_LARGEST_KERNEL if parts == 1 else _LARGEST_STRIDE)
            ]
            for size in node.synapses[0].window
        )
        return [division for division in itertools.product(rows, columns) if division != (1, 1)]

    def divided(self, term: Term, division: Division) -> Term:
        """Return the pass that sums up parts of a term's window, each at an output position of its own."""
        height, width = (size // parts for size, parts in zip(term.kernel, division, strict=True))
        return dataclasses.replace(term, ky=(0, height), kx=(0, width), stride=(height, width))

    # Tasks

    def split(self, term: Term, fits: Callable[[Term], bool]) -> list[Term] | None:
        """Cut a term into parts that fit: by words of the source first, then by rows and columns of the kernel.

        Returns None where even one word at one tap does not fit.
        """
        if fits(term) and max(term.kernel) <= _LARGEST_KERNEL:
            return [term]
        count = term.words[1] - term.words[0]
        kernel_fits = max(term.kernel) <= _LARGEST_KERNEL
        if term.mode is PassMode.BROADCAST and count > 1 and kernel_fits:
            one = dataclasses.replace(term, words=(term.words[0], term.words[0] + 1))
            if fits(one):
                size = max(
                    n
                    for n in range(1, count)
                    if fits(dataclasses.replace(one, words=(term.words[0], term.words[0] + n)))
                )
                return [dataclasses.replace(term, words=span) for span in spans(term.words, size)]
        for name, span in (("ky", term.ky), ("kx", term.kx)):
            length = span[1] - span[0]
            if length > 1:
                halves = [dataclasses.replace(term, **{name: part}) for part in spans(span, -(-length // 2))]  # type: ignore[arg-type]
                parts = [self.split(half, fits) for half in halves]
                return None if None in parts else [each for part in parts if part is not None for each in part]
        return None

    def chain(
        self, node: Layer | MaxPool, tiles: Span, stages: list[tuple[Term, ...]], sums: Callable[[int], str]
    ) -> list[Task]:
        """Turn stages of terms into tasks; all but the last leave partial sums, in the map that `sums` names."""
        last_kind = FireKind.SPIKE
        if isinstance(node, Layer):
            if node.neuron is None:
                last_kind = FireKind.MEMBRANE
            elif node.neuron.lfsr is not None:
                last_kind = FireKind.PROBABILISTIC
        tasks = []
        for index, terms in enumerate(stages):
            last = index == len(stages) - 1
            tasks.append(
                Task(
                    node,
                    tiles,
                    sums(index - 1) if index else None,
                    terms,
                    last_kind if last else FireKind.RAW,
                    node.name if last else sums(index),
                )
            )
        return tasks


def stages(terms: list[Term]) -> list[tuple[Term, ...]]:
    """Group terms by the passes of a RUN; from the second stage on, one pass continues the sums."""
    first, rest = tuple(terms[:PASS_SLOTS]), terms[PASS_SLOTS:]
    each = PASS_SLOTS - 1
    return [first] + [tuple(rest[at : at + each]) for at in range(0, len(rest), each)]


def spans(span: Span, size: int) -> list[Span]:
    """Cut a span into the fewest parts of at most `size`, as equal as possible."""
    start, stop = span
    count = -(-(stop - start) // size)
    edges = [start + (stop - start) * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))
