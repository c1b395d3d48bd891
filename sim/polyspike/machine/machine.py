"""Executes programs on numpy memories, exactly as `polyspike.spec.instructions` describes them.

The simulator follows the loop nest of that description column by column. Only the positions of a column are
vectorized, which is the same as one after the other because no RUN may read a word that it writes; that is asserted.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import Configuration, DeviceError
from polyspike.spec.configuration import ADDRESS_BITS
from polyspike.spec.instructions import (
    FIRE,
    HALT,
    OUTPUT,
    PASS_SLOTS,
    RANDOM,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    PassMode,
    RandomValue,
    decode,
)
from polyspike.spec.lfsr import DRAW_BITS, advance, step
from polyspike.spec.memory import READABLE, Space, depth
from polyspike.spec.registers import MAGIC, REGISTERS, InputLayout

Descriptor = Mapping[str, int]
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

#: Addresses, masks of the bits that are written, and those bits.
Store = tuple[Integers, Words, Words]

_ADDRESS_MASK = (1 << ADDRESS_BITS) - 1

#: Where the maximum of a pooling window starts.
_LOWEST = -128


@dataclasses.dataclass
class ColumnCounters:
    """What one column did: events added, spike words fetched, and how many of those were zero and skipped."""

    events: int = 0
    words: int = 0
    zero_words: int = 0


def _split(words: Words, bits: int) -> Integers:
    """Cut 64-bit words into codes of `bits` bits: uint64 [...] to int64 [..., 64 / bits], lowest first."""
    shifts = np.arange(64 // bits, dtype=np.uint64) * np.uint64(bits)
    return ((words[..., None] >> shifts) & np.uint64((1 << bits) - 1)).astype(np.int64)


class Machine:
    """A device that executes instructions.

    Parameters
    ----------
    configuration
        The hardware to simulate.

    Raises
    ------
    DeviceError
        By its methods: an access outside a space, an instruction without a meaning, or a membrane that leaves the
        accumulator, which a compiled program never does.
    """

    def __init__(self, configuration: Configuration) -> None:
        c = self.configuration = configuration
        self.spikes = np.zeros(c.spike_depth, np.uint64)
        #: int8 [columns, weight_depth, lanes]
        self.weights = np.zeros((c.columns, c.weight_depth, c.lanes), np.int8)
        #: int64 [columns, param_depth] each
        self.theta = np.zeros((c.columns, c.param_depth), np.int64)
        self.bias = np.zeros((c.columns, c.param_depth), np.int64)
        self.v0 = np.zeros((c.columns, c.param_depth), np.int64)
        #: negative thresholds, or jumps of random numbers
        self.fourth = np.zeros((c.columns, c.param_depth), np.int64)
        self.program = np.zeros(c.program_depth, np.uint64)
        #: What each column has done since the counters were cleared.
        self.columns = [ColumnCounters() for _ in range(c.columns)]
        #: Registers that only keep what is written to them.
        self.settings = {"UART_DIVISOR": 0, "INPUT_LAYOUT": 0}
        #: Least cycles the runs could have taken: in each, the events of the busiest column; with pairs, where a
        #: position goes to whichever column of a group has room, those of the busiest group, evenly divided.
        self.cycles = 0
        self._random: dict[RandomValue, int] = {}
        self._states: Integers = np.zeros(0, np.int64)
        self._single: dict[str, Descriptor] = {}
        self._slots: list[dict[str, Descriptor]] = [{} for _ in range(PASS_SLOTS)]
        #: Positions that a column works on at a time, 1 or 2.
        self._together = 1

    # Host accesses

    def write(self, space: Space, mask: int, address: int, words: Sequence[int] | Words, ahead: bool = False) -> None:
        """Write 64-bit words. `mask` chooses columns for WEIGHTS and PARAMS, and tells how many words INPUT makes.

        A run is over when `run` returns, so `ahead` means nothing here.
        """
        data = np.asarray(words, np.uint64)
        where = slice(address, address + len(data))
        if space is Space.REGISTERS:
            for at, word in enumerate(data, address):
                self._write_register(at, int(word))
            return
        if space is Space.INPUT:
            self._unpack(address, mask, data)
            return
        if not 0 <= address <= address + len(data) <= depth(self.configuration, space):
            raise DeviceError(f"{space.name} has no words {address} to {address + len(data) - 1}")
        if space is Space.SPIKES:
            self.spikes[where] = data
        elif space is Space.PROGRAM:
            self.program[where] = data
        for column in range(self.configuration.columns):
            if not mask >> column & 1:
                continue
            if space is Space.WEIGHTS:
                bank = self.weights[column].reshape(-1, 8)
                bank[where] = data.astype("<u8").view(np.int8).reshape(-1, 8)
            elif space is Space.PARAMS:
                for at, word in enumerate(data, address):
                    halves = np.array([word], "<u8").view("<i4")
                    if at % 2:
                        self.v0[column, at // 2] = halves[0]
                        if self.configuration.negative_threshold or self.configuration.probabilistic:
                            self.fourth[column, at // 2] = int(halves[1]) & 0xFFFFFFFF
                    else:
                        self.theta[column, at // 2] = int(halves[0]) & 0xFFFFFFFF
                        self.bias[column, at // 2] = halves[1]

    def read(self, space: Space, address: int, count: int) -> Words:
        """Read 64-bit words of the spike memory or of the registers."""
        if space not in READABLE:
            raise DeviceError(f"{space.name} cannot be read")
        if not 0 <= address <= address + count <= depth(self.configuration, space):
            raise DeviceError(f"{space.name} has no words {address} to {address + count - 1}")
        if space is Space.SPIKES:
            return self.spikes[address : address + count].copy()
        return np.array([self._register(REGISTERS[at].name) for at in range(address, address + count)], np.uint64)

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        """Read now what is asked for later."""
        words = self.read(space, address, count)
        return lambda: words

    def finish(self) -> None:
        """Do nothing: everything is done when its method returns."""

    def traffic(self) -> None:
        """Return None: there is no link."""
        return

    def run(self, first: int, count: int) -> None:
        """Execute `count` instructions from `first` on, or fewer if one is HALT; with count 0, until HALT."""
        c = self.configuration
        if not 0 <= first <= first + count <= c.program_depth:
            raise DeviceError(f"PROGRAM has no instructions {first} to {first + count - 1}")
        for at in range(first, first + count if count else c.program_depth):
            instruction = decode(int(self.program[at]))
            if instruction.format is HALT:
                return
            if instruction.format is RUN:
                self._run()
            elif instruction.format in (SOURCE, WINDOW, WEIGHTS):
                self._slots[instruction.values["slot"]][instruction.format.name] = instruction.values
            elif instruction.format is RANDOM:
                which = instruction.values["which"]
                if not c.probabilistic:
                    raise DeviceError(f"configuration {c.name!r} has no probabilistic neurons")
                self._random[RandomValue(which)] = instruction.values["value"]
            else:
                self._single[instruction.format.name] = instruction.values

    def _register(self, name: str) -> int:
        known = {
            "MAGIC": MAGIC,
            "DIGEST": int(self.configuration.digest, 16),
            "CYCLES": self.cycles,
            "EVENTS": sum(column.events for column in self.columns),
            "WORDS": sum(column.words for column in self.columns),
            "ZERO_WORDS": sum(column.zero_words for column in self.columns),
            **self.settings,
        }
        return known.get(name, 0)

    def _write_register(self, at: int, word: int) -> None:
        if not (0 <= at < len(REGISTERS) and REGISTERS[at].writable):
            raise DeviceError(f"register {at} cannot be written")
        name = REGISTERS[at].name
        if name == "COUNTERS_CLEAR":
            self.columns = [ColumnCounters() for _ in self.columns]
            self.cycles = 0
        else:
            self.settings[name] = word

    def _unpack(self, address: int, count: int, data: Words) -> None:
        """Make `count` spike words of the items in a payload, as register INPUT_LAYOUT says."""
        if not 0 <= address <= address + count <= depth(self.configuration, Space.INPUT):
            raise DeviceError(f"INPUT has no words {address} to {address + count - 1}")
        rest, fields = self.settings["INPUT_LAYOUT"], {}
        for name, width in InputLayout.FIELDS:
            fields[name] = rest & ((1 << width) - 1)
            rest >>= width
        if fields.pop("top") != fields["nibbles"] * fields["taps"]:
            raise DeviceError("register INPUT_LAYOUT holds no input layout")
        layout = InputLayout(**fields)
        rows, places = np.divmod(np.arange(count), (layout.row - layout.taps) // layout.stride + 1)
        first = rows * layout.row + places * layout.stride
        nibbles = first[:, None] * layout.nibbles + np.arange(layout.top)
        stream = _split(data, 4).reshape(-1)
        if count and nibbles[-1, -1] >= len(stream):
            raise DeviceError(f"{count} input words need more than the {len(data)} words of the payload")
        shifts = 4 * np.arange(layout.top, dtype=np.uint64)
        words = np.bitwise_or.reduce(stream[nibbles].astype(np.uint64) << shifts, axis=1)
        self.spikes[address : address + count] = words

    # RUN

    def _run(self) -> None:
        c = self.configuration
        shape = self._single[SHAPE.name]
        position_count = 1 << shape["position_log2"]
        groups = c.columns // position_count
        if groups == 0:
            raise DeviceError(f"position_log2 = {shape['position_log2']} is too large for {c.columns} columns")
        self._together = 1 << shape["pairs"]
        if shape["pairs"]:
            self._check_pairs()
        self._read_from = np.zeros(c.spike_depth, bool)
        self._written = np.zeros(c.spike_depth, bool)
        before = [column.events for column in self.columns]
        pending: list[Store] = []
        # Pairs, where it works on pairs; `width` counts positions.
        positions = np.arange(shape["height"] * shape["width"])
        width = shape["width"] * self._together
        if c.probabilistic and self._single[FIRE.name]["kind"] == FireKind.PROBABILISTIC:
            self._states = self._walk_states(len(positions))
        for column in range(c.columns):
            group, member = divmod(column, position_count)
            taken = positions[member::position_count]
            each = (taken[:, None] * self._together + np.arange(self._together)).reshape(-1)
            y, x = each // width, each % width
            if len(taken) == 0:
                continue
            for round_ in range(-(-shape["tiles"] // groups)):
                tile = round_ * groups + group
                if tile < shape["tiles"]:
                    self._tile(column, round_, tile, y, x, pending)
        for address, mask, words in pending:
            self.spikes[address] = (self.spikes[address] & ~mask) | words
            self._written[address] = True
        if (self._read_from & self._written).any():
            at = int(np.flatnonzero(self._read_from & self._written)[0])
            raise DeviceError(f"a RUN reads and writes spike word {at}; in which order is not defined")
        took = [column.events - events for column, events in zip(self.columns, before, strict=True)]
        even = position_count if c.pairs else 1  # columns that can have an equal part of the events
        self.cycles += max(-(-sum(took[first : first + even]) // even) for first in range(0, c.columns, even))

    def _check_pairs(self) -> None:
        """Refuse a RUN that cannot work on pairs of positions."""
        c, fire, pitch = self.configuration, self._single[FIRE.name], self._single[OUTPUT.name]["pixel_pitch"]
        if not c.pairs:
            raise DeviceError(f"configuration {c.name!r} has no pairs of positions")

        def need(condition: bool, what: str) -> None:
            if not condition:
                raise DeviceError(f"a RUN in pairs of positions has {what}")

        need(fire["kind"] != FireKind.PROBABILISTIC, "probabilistic neurons")
        need(pitch % 2 == 0, f"an output pixel_pitch of {pitch}, which is odd")
        need(pitch < c.spike_depth, f"an output pixel_pitch of {pitch}, as much as the spike memory")
        for slot in range(self._single[SHAPE.name]["passes"]):
            source, window, weights = (self._slots[slot][each.name] for each in (SOURCE, WINDOW, WEIGHTS))
            mode, stride = PassMode(weights["mode"]), window["stride_x"]
            need(mode in (PassMode.BROADCAST, PassMode.ELEMENTWISE), f"a {mode.name} pass")
            need(not weights["wide"], "a source of 8-bit counts")
            need(mode is not PassMode.BROADCAST or weights["shift"] <= 1, f"a shift of {weights['shift']}")
            need(stride % 2 == 0, f"a stride_x of {stride}, which is odd")
            need(2 * window["width"] >= stride, f"a source of {window['width']} pixels and a stride_x of {stride}")
            step = stride * source["pixel_pitch"]
            need(step < c.spike_depth, f"{step} words from pair to pair, as many as the spike memory")

    def _tile(self, column: int, round_: int, tile: int, y: Integers, x: Integers, pending: list[Store]) -> None:
        """Compute one output tile at the positions of one column."""
        c = self.configuration
        fire, shape = self._single[FIRE.name], self._single[SHAPE.name]
        kind = FireKind(fire["kind"])
        channels = (fire["params"] + round_ * c.lanes + np.arange(c.lanes)) & _ADDRESS_MASK & (c.param_depth - 1)
        theta, bias, v0, fourth = (values[column, channels] for values in (self.theta, self.bias, self.v0, self.fourth))
        if kind is FireKind.PROBABILISTIC and not c.probabilistic:
            raise DeviceError(f"configuration {c.name!r} has no probabilistic neurons")
        if kind in (FireKind.SPIKE, FireKind.PROBABILISTIC) and (theta == 0).any():
            raise DeviceError(f"column {column}: a threshold of tile {tile} is 0; parameters were not written")
        membrane = np.broadcast_to(v0, (len(y), c.lanes)).copy()
        emitted = np.zeros_like(membrane)
        for t in range(shape["timesteps"]):
            total = self._sum(column, round_, tile, y, x, t)
            if kind is FireKind.RAW:
                self._store_values(total, tile, y, x, t, pending)
                continue
            membrane = self._check(membrane + total + bias)
            if kind is not FireKind.SPIKE:
                continue
            self._check(membrane + fire["n_neg"] * theta)
            low = np.minimum(fire["n_neg"], emitted) if fire["rectified"] else fire["n_neg"]
            if c.negative_threshold:
                low = np.where(membrane < -fourth, low, 0)
            counts = np.clip(membrane // theta, -low, fire["n_pos"])
            membrane = membrane - theta * counts
            emitted = emitted + counts
            self._store_counts(counts, 8 if fire["wide"] else 4, tile, y, x, t, pending)
        if kind is FireKind.MEMBRANE:
            self._store_values(membrane, tile, y, x, 0, pending)
        if kind is FireKind.PROBABILISTIC:
            for t, numbers in enumerate(self._draws(int(fourth[0]), y, x)):
                fires = (membrane > 0) & (membrane << DRAW_BITS > numbers * theta * (shape["timesteps"] - t))
                membrane = self._check(membrane - theta * fires)
                self._store_counts(fires.astype(np.int64), 4, tile, y, x, t, pending)

    def _walk_states(self, positions: int) -> Integers:
        """Return the state of the register of random numbers at each position of a RUN, int64 [positions]."""
        states, state = np.zeros(positions, np.int64), self._random[RandomValue.FIRST]
        for position in range(positions):
            states[position] = state
            state = advance(state, self._random[RandomValue.POSITION], self._random[RandomValue.TAPS])
        return states

    def _draws(self, tile_jump: int, y: Integers, x: Integers) -> Iterator[Integers]:
        """Yield the random numbers of a tile at some positions for each timestep, int64 [positions, lanes]."""
        shape, taps = self._single[SHAPE.name], self._random[RandomValue.TAPS]
        states = advance(self._states[y * shape["width"] + x], tile_jump, taps)
        for _ in range(shape["timesteps"]):
            numbers = np.zeros((len(y), self.configuration.lanes), np.int64)
            going = states
            for lane, bit in np.ndindex(self.configuration.lanes, DRAW_BITS):
                numbers[:, lane] |= (going & 1) << bit
                going = step(going, taps)
            yield numbers
            states = advance(states, self._random[RandomValue.TIMESTEP], taps)

    def _sum(self, column: int, round_: int, tile: int, y: Integers, x: Integers, t: int) -> Integers:
        """Return the sums of all passes for one timestep, int64 [positions, lanes]."""
        c = self.configuration
        total = np.zeros((len(y), c.lanes), np.int64)
        for slot in range(self._single[SHAPE.name]["passes"]):
            source, window, weights = (self._slots[slot][each.name] for each in (SOURCE, WINDOW, WEIGHTS))
            mode, stride_x = PassMode(weights["mode"]), window["stride_x"] // self._together
            if mode is PassMode.MAXIMUM:
                total += _LOWEST
            neighbours = self._together == 2 and stride_x == 1 and mode is PassMode.BROADCAST and weights["words"] == 1
            touched = np.zeros(len(y), bool)
            per_word = 8 if weights["wide"] else 16
            row_tap = weights["words"] * per_word if mode is PassMode.BROADCAST else 1
            row_word = per_word if mode is PassMode.BROADCAST else 0
            tile_offset = {
                PassMode.BROADCAST: 0,
                PassMode.ELEMENTWISE: tile * c.lanes // per_word,
                PassMode.MAXIMUM: tile * c.lanes // per_word,
                PassMode.RAW: tile * c.lanes // 2,
            }[mode]
            for ky in range(window["kernel_h"]):
                for kx in range(window["kernel_w"]):
                    iy = y * window["stride_y"] - window["pad_y"] + ky
                    ix = x * stride_x - window["pad_x"] + kx
                    inside = (iy >= 0) & (iy < window["height"]) & (ix >= 0) & (ix < window["width"])
                    touched |= inside
                    fetched = inside.copy()
                    if neighbours and kx:
                        # What the first position of a pair sees, the second one saw at the tap before.
                        fetched[::2] &= ~inside[1::2]
                    tap = 0 if weights["shared"] else ky * window["kernel_w"] + kx
                    for w in range(weights["words"]):
                        address = (
                            source["origin"]
                            + t * source["time_pitch"]
                            + (y * window["stride_y"] + ky) * source["row_pitch"]
                            + (x * stride_x + kx) * source["pixel_pitch"]
                            + w
                            + tile_offset
                        )
                        address = address[inside] & _ADDRESS_MASK & (c.spike_depth - 1)
                        row = weights["base"] + round_ * weights["tile_step"] + tap * row_tap + w * row_word
                        total[inside] = self._check(
                            self._accumulate(
                                column, mode, weights, total[inside], address, inside, fetched, row, w, tile
                            )
                        )
            if mode is PassMode.MAXIMUM:
                total[~touched] = 0
        return total

    def _accumulate(
        self,
        column: int,
        mode: PassMode,
        weights: Descriptor,
        total: Integers,
        address: Integers,
        inside: NDArray[np.bool_],
        fetched: NDArray[np.bool_],
        row: int,
        w: int,
        tile: int,
    ) -> Integers:
        """Add one spike word a position to sums, int64 [positions, lanes], and return the new sums.

        The positions are those of a column that are `inside` the source; for those of them that are `fetched`, the word
        is not at hand from the tap before.
        """
        c = self.configuration
        words = self.spikes[address]
        self._read_from[address] = True
        counters = self.columns[column]
        counters.words += int(fetched.sum())
        # Zeros add nothing, but one of them can be the largest count of a window.
        if mode is not PassMode.MAXIMUM:
            counters.zero_words += int((words[fetched[inside]] == 0).sum())
        if mode is PassMode.RAW:
            counters.events += int((words != 0).sum())
            total = total.copy()
            total[:, 2 * w : 2 * w + 2] += words.astype("<u8").view("<i4").reshape(-1, 2)
            return total
        bits = 8 if weights["wide"] else 4
        codes = _split(words, bits)
        counts = np.where(codes > weights["positive"], codes - (1 << bits), codes)
        if mode is PassMode.BROADCAST:
            # Positions that are worked on together share an event.
            nonzero = np.zeros((len(inside), counts.shape[1]), bool)
            nonzero[inside] = counts != 0
            counters.events += int(nonzero.reshape(-1, self._together, counts.shape[1]).any(1).sum())
            rows = (row + np.arange(counts.shape[1])) & _ADDRESS_MASK & (c.weight_depth - 1)
            products: Integers = counts @ self.weights[column, rows].astype(np.int64)
            return total + (products << weights["shift"])
        # Word w of the tile feeds these lanes.
        per_word = 64 // bits
        lanes = np.arange(c.lanes)
        lanes = lanes[lanes // per_word == w]
        mine = counts[:, (tile * c.lanes + lanes) % per_word]
        total = total.copy()
        if mode is PassMode.MAXIMUM:
            counters.events += len(words)
            total[:, lanes] = np.maximum(total[:, lanes], mine)
        else:
            counters.events += int((words != 0).sum())
            weight = self.weights[column, row & _ADDRESS_MASK & (c.weight_depth - 1), lanes].astype(np.int64)
            total[:, lanes] += (mine * weight) << weights["shift"]
        return total

    def _check(self, values: Integers) -> Integers:
        limit = 1 << (self.configuration.membrane_bits - 1)
        if values.size and not -limit <= values.min() <= values.max() < limit:
            raise DeviceError(
                f"a membrane left its {self.configuration.membrane_bits} bits: {values.min()} to {values.max()}"
            )
        return values

    def _output(self, y: Integers, x: Integers, t: int, offset: Integers) -> Integers:
        output = self._single[OUTPUT.name]
        pixel_pitch = output["pixel_pitch"] // self._together
        address = output["base"] + t * output["time_pitch"] + y * output["row_pitch"] + x * pixel_pitch
        return (address[:, None] + offset) & _ADDRESS_MASK & (self.configuration.spike_depth - 1)

    def _store_counts(
        self,
        counts: Integers,
        bits: int,
        tile: int,
        y: Integers,
        x: Integers,
        t: int,
        pending: list[Store],
    ) -> None:
        """Write the counts of a tile, int64 [positions, lanes], in words or half a word."""
        per_word = 64 // bits
        channel = tile * self.configuration.lanes + np.arange(self.configuration.lanes)
        codes = (counts & ((1 << bits) - 1)).astype(np.uint64) << ((channel % per_word) * bits).astype(np.uint64)
        masks = np.uint64((1 << bits) - 1) << ((channel % per_word) * bits).astype(np.uint64)
        for word in np.unique(channel // per_word):
            mine = channel // per_word == word
            address = self._output(y, x, t, np.array([word]))[:, 0]
            mask = np.bitwise_or.reduce(masks[mine])
            pending.append((address, np.full(len(y), mask), np.bitwise_or.reduce(codes[:, mine], axis=1)))

    def _store_values(
        self, values: Integers, tile: int, y: Integers, x: Integers, t: int, pending: list[Store]
    ) -> None:
        """Write 32-bit values of a tile, int64 [positions, lanes], two a word."""
        half = self.configuration.lanes // 2
        words = np.ascontiguousarray(values.astype("<i4")).view("<u8").astype(np.uint64)
        address = self._output(y, x, t, tile * half + np.arange(half))
        whole = np.full(address.size, np.uint64(0xFFFFFFFFFFFFFFFF))
        pending.append((address.reshape(-1), whole, words.reshape(-1)))
