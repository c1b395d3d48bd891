"""From a Yosys netlist to C++ that simulates it: one clock, two-state, every signal in 64-bit words.

The result is plain straight-line code: combinational cells in dependency order, then registers and memories, each
updated after everything that reads its old value. It compiles in seconds where general-purpose simulators take minutes,
because it knows that there is one clock and no unknown values.

Copies of a module, such as the columns of an accelerator, are simulated side by side: cells that correspond to each
other become one statement about a vector with an element for each copy, which the processor works on at once. Whether
cells do correspond is a matter of speed alone, as what differs between their inputs is gathered from where it is.
"""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from polyspike.spec import DeviceError

#: A bit of a netlist: the number of a net, or a constant "0", "1" or "x".
Bit = int | str
#: A signal: for each of its bits, that of each copy of the cell, a single one where there are no copies.
Bits = list[tuple[Bit, ...]]

WORD = 64

#: Modules of one name and different numbers are copies of each other if there are at least so many.
COPIES = 4

#: Statements a function. Compilers take more than linear time for a function's size.
FUNCTION_STATEMENTS = 500

#: What the generated code calls.
PRELUDE = """
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
typedef uint64_t word;
typedef int64_t sword;
// A long value.
template <class T, unsigned N> struct Words { T w[N]; };
// `width` bits of a long value from bit `at` on; zero beyond its end.
template <unsigned N> static inline word extract(const Words<word, N> &a, word at, unsigned width) {
  const word index = at >> 6, shift = at & 63;
  if (index >= N) return 0;
  word value = a.w[index] >> shift;
  if (shift && index + 1 < N) value |= a.w[index + 1] << (64 - shift);
  return width == 64 ? value : value & (((word)1 << width) - 1);
}
static inline word pick(word on, word a, word b) { return on ? a : b; }
static inline word shift_left(word a, word by) { return by > 63 ? 0 : a << by; }
static inline word shift_right(word a, word by) { return by > 63 ? 0 : a >> by; }
static inline word shift_signed(word a, int unused, word by) {
  return (sword)(a << unused) >> unused >> (by > 63 ? 63 : by);
}
static inline word parity(word a) { return __builtin_parityll(a); }
"""

#: The same word of up to $N copies; comparisons give 0 or 1. Not a template, as compilers do not take its parameter for
#: the size of a vector everywhere.
VECTOR = """
struct Vec$N {
  typedef word Raw __attribute__((vector_size(8 * $N)));
  typedef sword Signed __attribute__((vector_size(8 * $N)));
  Raw raw;
  Vec$N() {}
  Vec$N(word each) : raw(Raw{} + each) {}
  static Vec$N of(Raw raw) { Vec$N result; result.raw = raw; return result; }
  static Vec$N gather(std::initializer_list<word> each) {
    alignas(8 * $N) word padded[$N] = {};
    std::copy(each.begin(), each.end(), padded);
    return load(padded);
  }
  static Vec$N load(const word *each) {
    Vec$N result;
    std::memcpy(&result.raw, each, sizeof result.raw);
    return result;
  }
  word operator[](unsigned index) const { return raw[index]; }
};
typedef const Vec$N &Of$N;
static inline Vec$N operator&(Of$N a, Of$N b) { return Vec$N::of(a.raw & b.raw); }
static inline Vec$N operator|(Of$N a, Of$N b) { return Vec$N::of(a.raw | b.raw); }
static inline Vec$N operator^(Of$N a, Of$N b) { return Vec$N::of(a.raw ^ b.raw); }
static inline Vec$N operator+(Of$N a, Of$N b) { return Vec$N::of(a.raw + b.raw); }
static inline Vec$N operator-(Of$N a, Of$N b) { return Vec$N::of(a.raw - b.raw); }
static inline Vec$N operator*(Of$N a, Of$N b) { return Vec$N::of(a.raw * b.raw); }
static inline Vec$N operator<<(Of$N a, int by) { return Vec$N::of(a.raw << by); }
static inline Vec$N operator>>(Of$N a, int by) { return Vec$N::of(a.raw >> by); }
static inline Vec$N operator~(Of$N a) { return Vec$N::of(~a.raw); }
static inline Vec$N operator-(Of$N a) { return Vec$N::of(-a.raw); }
static inline Vec$N operator!(Of$N a) { return Vec$N::of((Vec$N::Raw)(a.raw == 0) & 1); }
static inline Vec$N operator==(Of$N a, Of$N b) { return Vec$N::of((Vec$N::Raw)(a.raw == b.raw) & 1); }
static inline Vec$N operator!=(Of$N a, Of$N b) { return Vec$N::of((Vec$N::Raw)(a.raw != b.raw) & 1); }
static inline Vec$N operator<(Of$N a, Of$N b) { return Vec$N::of((Vec$N::Raw)(a.raw < b.raw) & 1); }
static inline Vec$N operator<=(Of$N a, Of$N b) { return Vec$N::of((Vec$N::Raw)(a.raw <= b.raw) & 1); }
static inline Vec$N operator>(Of$N a, Of$N b) { return b < a; }
static inline Vec$N operator>=(Of$N a, Of$N b) { return b <= a; }
static inline Vec$N operator&&(Of$N a, Of$N b) { return (a != 0) & (b != 0); }
static inline Vec$N operator||(Of$N a, Of$N b) { return (a | b) != 0; }
static inline Vec$N pick(Of$N on, Of$N a, Of$N b) { return Vec$N::of(on.raw != 0 ? a.raw : b.raw); }
static inline Vec$N pick(word on, Of$N a, Of$N b) { return on ? a : b; }
static inline Vec$N shift_left(Of$N a, Of$N by) { return pick(by > 63, 0, Vec$N::of(a.raw << (by.raw & 63))); }
static inline Vec$N shift_right(Of$N a, Of$N by) { return pick(by > 63, 0, Vec$N::of(a.raw >> (by.raw & 63))); }
static inline Vec$N shift_signed(Of$N a, int unused, Of$N by) {
  const Vec$N most = pick(by > 63, 63, by);
  return Vec$N::of((Vec$N::Raw)((Vec$N::Signed)(a.raw << unused) >> unused >> (Vec$N::Signed)most.raw));
}
static inline Vec$N parity(Of$N a) {
  Vec$N folded = a;
  for (int by = 32; by; by >>= 1) folded = folded ^ folded >> by;
  return folded & 1;
}
static inline bool any(Of$N a) {
  word all = 0;
  for (unsigned i = 0; i < $N; i++) all |= a.raw[i];
  return all;
}
template <unsigned N> static inline Vec$N extract(const Words<Vec$N, N> &a, Of$N at, unsigned width) {
  const Vec$N index = at >> 6, shift = at & 63;
  Vec$N low = 0, high = 0;
  for (unsigned i = 0; i < N; i++) low = pick(index == i, a.w[i], low);
  for (unsigned i = 1; i < N; i++) high = pick(index == i - 1, a.w[i], high);
  const Vec$N value = shift_right(low, shift) | pick(shift == 0, 0, shift_left(high, 64 - shift));
  return width == 64 ? value : value & (((word)1 << width) - 1);
}
// A word of each copy's memory, zero beyond its end.
template <unsigned M, unsigned N>
static inline Vec$N read(const word (&memories)[M][N], Of$N at, unsigned words, unsigned index, unsigned size) {
  alignas(8 * $N) word found[$N] = {};
  for (unsigned i = 0; i < M; i++) found[i] = at[i] < size ? memories[i][at[i] * words + index] : 0;
  return Vec$N::load(found);
}
"""

_BITWISE = {"$and": "({a} & {b})", "$or": "({a} | {b})", "$xor": "({a} ^ {b})", "$xnor": "~({a} ^ {b})"}
_ARITHMETIC = {"$add": "+", "$sub": "-", "$mul": "*"}
_COMPARISONS = {"$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_SPLITTABLE = {*_BITWISE, "$not", "$pos", "$mux", "$pmux"}
#: The name of a cell in a module that others may be copies of: what comes before its number, that, and what follows.
_COPY = re.compile(r"(.*?[A-Za-z_])(\d+)\.(.*)")
_NUMBER = re.compile(r"\$\d+")
_REGISTERS = {"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"}


@dataclasses.dataclass(frozen=True)
class Statement:
    """Code that computes `defines` (a word, or a memory) of some type from the words and memories in `uses`."""

    defines: str
    type: str
    uses: frozenset[str]
    code: str


@dataclasses.dataclass(frozen=True)
class _Group:
    """Cells that are simulated by one statement: one, or one of each copy of a module."""

    #: their places among all cells
    indices: tuple[int, ...]
    names: tuple[str, ...]
    cells: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """What the words of its value are called after."""
        return f"v{self.indices[0]}"

    @property
    def kind(self) -> str:
        return str(self.cells[0]["type"])

    def number(self, parameter: str, default: int | None = None) -> int:
        return _number(self.cells[0], parameter, default)

    def port(self, name: str) -> Bits:
        return list(zip(*(cell["connections"].get(name, []) for cell in self.cells), strict=True))


@dataclasses.dataclass(frozen=True)
class _Value:
    """A driven signal, held in words of `chunk` bits."""

    name: str
    width: int
    chunk: int

    def words(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, lowest bit, width) of each word."""
        for index, low in enumerate(range(0, self.width, self.chunk)):
            yield f"{self.name}_{index}", low, min(self.chunk, self.width - low)


class _LoopError(Exception):
    """Words that depend on each other in a circle."""

    def __init__(self, words: Iterable[str]) -> None:
        self.values = {word.rpartition("_")[0] for word in words}
        #: of groups of cells, of whose values memories have one for each read port
        self.groups = {value.partition("r")[0] for value in self.values}


def mask(width: int) -> str:
    """Return the C++ literal of `width` ones."""
    return f"0x{(1 << width) - 1:x}u" if width <= 32 else f"0x{(1 << width) - 1:x}ull"


def emit(netlist: str, top: str, collisions: bool = True, *, vectors: bool = True) -> str:
    """Turn a flat netlist into C++.

    Parameters
    ----------
    netlist
        What Yosys' `write_json` wrote after `proc`, `flatten` and `memory_collect`.
    top
        The module to simulate. Its input `clk` is the clock.
    collisions
        Whether a memory may be read where it is written in the same cycle, which then gives what was there before.
        Otherwise it gives something else, and no design that depends on it passes its tests.
    vectors
        Whether copies of a module are simulated side by side, which pays where the processor has registers for that.

    Returns
    -------
    C++ source of a struct `Design` with a `word` for each port, named `port_` and the port's name, and a method
    `cycle()`, which computes the outputs from the inputs and the present state and then applies the clock edge.

    Raises
    ------
    DeviceError
        The netlist has a kind of cell that this cannot simulate, or a combinational loop.
    """
    module = json.loads(netlist)["modules"][top]
    cells = [(name, cell) for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"]
    split: set[str] = set()
    singles = [_Group((index,), (name,), (cell,)) for index, (name, cell) in enumerate(cells)]
    while True:
        generator = _Generator(module, singles, split, collisions)
        try:
            text = generator.generate()
            break
        except _LoopError as loop:
            # A vector whose bits depend on each other is a loop of words, but not of bits.
            values = loop.values & generator.splittable
            if values <= split:
                raise DeviceError("the design has a combinational loop, which cannot be simulated natively") from None
            split |= values
    apart: set[str] = set()
    while vectors and len(groups := _pair(singles, apart)) < len(singles):
        generator = _Generator(module, groups, split, collisions)
        try:
            return generator.generate()
        except _LoopError as loop:
            # Copies that depend on each other are no loop while each is a statement of its own.
            apart |= loop.groups & {group.name for group in groups if len(group.cells) > 1}
    return text


def _pair(cells: Sequence[_Group], apart: set[str]) -> list[_Group]:
    """Put the cells of copied modules together that correspond to each other, but for the groups named in `apart`.

    They are told by their module, kind, parameters, widths and line of the source; among equals, by their order.
    """
    modules: dict[str, set[int]] = defaultdict(set)
    alike: dict[Any, dict[int, list[tuple[int, _Group]]]] = defaultdict(lambda: defaultdict(list))
    result = []
    for group in cells:
        cell = group.cells[0]
        found = _COPY.match(group.names[0])
        if found is None:
            result.append(group)
            continue
        module, copy, inside = found[1], int(found[2]), found[3]
        modules[module].add(copy)
        widths = tuple((name, len(bits)) for name, bits in cell["connections"].items())
        parameters = [(name, value) for name, value in cell["parameters"].items() if name not in ("MEMID", "INIT")]
        source = cell["attributes"].get("src")
        key = (module, _NUMBER.sub("", inside), cell["type"], widths, tuple(parameters), source)
        place = _NUMBER.findall(inside)
        alike[key][copy].append((int(place[-1][1:]) if place else 0, group))
    for (module, *_), each in alike.items():
        lists = [[group for _, group in sorted(each[copy], key=lambda pair: pair[0])] for copy in sorted(each)]
        paired = len(lists) == len(modules[module]) >= COPIES and len({len(list_) for list_ in lists}) == 1
        for row in zip(*lists, strict=True) if paired else ():
            joint = _Group(
                tuple(group.indices[0] for group in row),
                tuple(group.names[0] for group in row),
                tuple(group.cells[0] for group in row),
            )
            result += row if joint.name in apart else [joint]
        if not paired:
            result += [group for list_ in lists for group in list_]
    return sorted(result, key=lambda group: group.indices[0])


class _Generator:
    def __init__(self, module: dict[str, Any], groups: Sequence[_Group], split: set[str], collisions: bool) -> None:
        self.module = module
        self.groups = groups
        self.collisions = collisions
        self.split = split
        self.splittable: set[str] = set()
        #: Where each net is: word, bit in the word, width of the word, and which of how many copies.
        self.place: dict[Bit, tuple[str, int, int, int, int]] = {}
        self.uses: set[str] = set()
        self.logic: list[Statement] = []
        self.updates: list[Statement] = []
        self.initial: list[str] = []
        self.outputs: list[Statement] = []
        #: Copies of the cells that statements are made of just now.
        self.copies = 1

    @property
    def type(self) -> str:
        """The C++ type of a word of all copies."""
        return "word" if self.copies == 1 else f"Vec{_lanes(self.copies)}"

    # Values and expressions

    def value(self, name: str, bits: Bits, *, chunk: int = WORD) -> _Value:
        """Name the value that drives `bits`."""
        value = _Value(name, len(bits), chunk)
        for word, low, width in value.words():
            for index in range(width):
                for copy, bit in enumerate(bits[low + index]):
                    self.place[bit] = (word, index, width, copy, len(bits[low + index]))
        return value

    def source(self, bits: tuple[Bit, ...]) -> tuple[str, int, int] | str | None:
        """Return where a bit of all copies is: a constant, or a word, the bit in it and its width; None if apart."""
        first = bits[0]
        if all(bit == first for bit in bits):
            if isinstance(first, str):
                return first
            word, low, width, copy, copies = self.place[first]
            return (word if copies == 1 else f"{word}[{copy}]", low, width)
        if isinstance(first, str):
            return None
        word, low, width, _, copies = self.place[first]
        if all(self.place.get(bit) == (word, low, width, copy, len(bits)) for copy, bit in enumerate(bits)):
            return (word, low, width)
        return None

    def expression(self, bits: Bits) -> str:
        """Return the C++ expression of at most 64 bits, and note what it uses."""
        assert len(bits) <= WORD
        constant = 0
        terms = []
        at = 0
        while at < len(bits):
            found = self.source(bits[at])
            if isinstance(found, str):
                constant |= (found == "1") << at
                at += 1
                continue
            size = 1
            if found is None:
                while at + size < len(bits) and self.source(bits[at + size]) is None:
                    size += 1
                each = [self.expression([(bit[copy],) for bit in bits[at : at + size]]) for copy in range(self.copies)]
                term = f"{self.type}::gather({{{', '.join(each)}}})"
                terms.append(f"({term} << {at})" if at else term)
                at += size
                continue
            word, low, width = found
            self.uses.add(word.partition("[")[0])
            while at + size < len(bits) and bits[at + size] == bits[at]:
                size += 1
            if size > 1:
                term = word if width == 1 else f"({word} >> {low} & 1)"
                term = f"(-{term} & {mask(size)})"
            else:
                while at + size < len(bits) and self.source(bits[at + size]) == (word, low + size, width):
                    size += 1
                term = f"({word} >> {low})" if low else word
                if low + size < width:
                    term = f"({term} & {mask(size)})"
            terms.append(f"({term} << {at})" if at else term)
            at += size
        if constant or not terms:
            terms.append(f"(word){constant:#x}ull")
        return terms[0] if len(terms) == 1 else f"({' | '.join(terms)})"

    def choose(self, condition: str, yes: str, no: str) -> str:
        """Return the expression of one or the other."""
        return f"{condition} ? {yes} : {no}" if self.copies == 1 else f"pick({condition}, {yes}, {no})"

    def parts(self, bits: Bits) -> list[str]:
        """Return the expressions of a value of any width, 64 bits each."""
        return [self.expression(bits[low : low + WORD]) for low in range(0, len(bits), WORD)]

    def statement(self, defines: str, code: str) -> Statement:
        """Finish a statement that uses what the expressions since the last one used."""
        done = Statement(defines, self.type, frozenset(self.uses), code)
        self.uses = set()
        return done

    def assign(self, word: str, code: str, width: int, *, clean: bool = False) -> None:
        """Add combinational logic. `clean` says that `code` has no bits above `width`."""
        if not clean and width < WORD:
            code = f"({code}) & {mask(width)}"
        self.logic.append(self.statement(word, f"{word} = {code};"))

    # The whole design

    def generate(self) -> str:
        ports = self.module["ports"]
        for name, port in ports.items():
            if port["direction"] == "input" and name != "clk":
                value = self.value(f"in_{name}", [(bit,) for bit in port["bits"]])
                assert value.width <= WORD
                self.initial.append(f"word {value.name}_0 = 0;")
        drives = []
        for group in self.groups:
            kind = group.kind
            output = {"$mem_v2": "RD_DATA"}.get(kind, "Q" if kind in _REGISTERS else "Y")
            bits = group.port(output)
            if not bits:
                raise DeviceError(f"cell {group.names[0]!r} of type {kind} cannot be simulated natively")
            if kind == "$mem_v2":
                width = group.number("WIDTH")
                lows = range(0, len(bits), width)
                drives.append([self.value(f"{group.name}r{low}", bits[low : low + width]) for low in lows])
            else:
                if kind in _SPLITTABLE:
                    self.splittable.add(group.name)
                single = any(f"v{index}" in self.split for index in group.indices)
                drives.append([self.value(group.name, bits, chunk=1 if single else WORD)])
        initial = self.initial_bits()
        for group, values in zip(self.groups, drives, strict=True):
            self.copies = len(group.cells)
            if group.kind == "$mem_v2":
                self.memory(group, values)
            elif group.kind in _REGISTERS:
                self.register(group, values[0], initial)
            else:
                self.cell(group, values[0])
        self.copies = 1
        for name, port in ports.items():
            if port["direction"] == "output":
                code = self.expression([(bit,) for bit in port["bits"]])
                self.outputs.append(self.statement(f"port_{name}", f"port_{name} = {code};"))
        return self.render(ports)

    def initial_bits(self) -> dict[Bit, str]:
        """Return the initial value of every net that has one."""
        values: dict[Bit, str] = {}
        for net in self.module["netnames"].values():
            text = net["attributes"].get("init")
            if text is not None:
                values.update(zip(net["bits"], reversed(text), strict=False))
        return values

    # Cells

    def cell(self, group: _Group, value: _Value) -> None:
        """Add combinational cells."""
        kind, a, b, s = group.kind, group.port("A"), group.port("B"), group.port("S")
        signed = bool(group.number("A_SIGNED", 0)) and bool(group.number("B_SIGNED", 1))
        if kind in _BITWISE or kind in ("$not", "$pos"):
            left, right = _extend(a, value.width, signed), _extend(b, value.width, signed)
            for word, low, width in value.words():
                x = self.expression(left[low : low + width])
                if kind in ("$not", "$pos"):
                    self.assign(word, f"~{x}" if kind == "$not" else x, width, clean=kind == "$pos")
                else:
                    y = self.expression(right[low : low + width])
                    self.assign(word, _BITWISE[kind].format(a=x, b=y), width, clean=kind != "$xnor")
        elif kind in ("$mux", "$pmux"):
            for word, low, width in value.words():
                code = self.expression(a[low : low + width])
                for index in reversed(range(len(s))):
                    at = index * value.width + low
                    code = self.choose(self.expression(s[index : index + 1]), self.expression(b[at : at + width]), code)
                self.assign(word, code, width, clean=True)
        elif kind in ("$reduce_or", "$reduce_bool", "$logic_not"):
            self.flag(value, f"({' | '.join(self.parts(a))}) {'==' if kind == '$logic_not' else '!='} 0")
        elif kind == "$reduce_and":
            tests = [
                f"{self.expression(a[low : low + WORD])} == {mask(min(WORD, len(a) - low))}"
                for low in range(0, len(a), WORD)
            ]
            self.flag(value, " && ".join(tests))
        elif kind in ("$reduce_xor", "$reduce_xnor"):
            parity = f"parity({' ^ '.join(self.parts(a))})"
            self.flag(value, parity if kind == "$reduce_xor" else f"!{parity}")
        elif kind in ("$logic_and", "$logic_or"):
            operator = "&&" if kind == "$logic_and" else "||"
            self.flag(value, f"({' | '.join(self.parts(a))}) {operator} ({' | '.join(self.parts(b))})")
        elif kind in ("$eq", "$ne"):
            width = max(len(a), len(b))
            pairs = zip(self.parts(_extend(a, width, signed)), self.parts(_extend(b, width, signed)), strict=True)
            equal = " && ".join(f"{x} == {y}" for x, y in pairs)
            self.flag(value, equal if kind == "$eq" else f"!({equal})")
        else:
            self.narrow_cell(group, value, signed)

    def narrow_cell(self, group: _Group, value: _Value, signed: bool) -> None:
        """Add cells that compute with numbers of at most 64 bits."""
        kind, a, b = group.kind, group.port("A"), group.port("B")
        if kind in ("$shr", "$shift", "$shiftx") and not group.number("B_SIGNED", 0):
            # The only one whose operand may be longer.
            self.shift_right(value, _extend(a, max(len(a), value.width), signed=False), b)
            return
        width = max(len(a), len(b), value.width) if kind in _COMPARISONS else value.width
        if max(width, len(a) if kind == "$sshr" else 0, len(b) if kind.startswith("$s") else 0) > WORD:
            raise DeviceError(
                f"cell {group.names[0]!r} of type {kind} has {width} bits; at most {WORD} can be simulated natively"
            )
        word = f"{value.name}_0"
        if kind in _ARITHMETIC:
            x, y = self.expression(_extend(a, width, signed)), self.expression(_extend(b, width, signed))
            self.assign(word, f"{x} {_ARITHMETIC[kind]} {y}", width)
        elif kind == "$neg":
            self.assign(word, f"-{self.expression(_extend(a, width, signed))}", width)
        elif kind in _COMPARISONS:
            width = max(len(a), len(b))
            x, y = self.expression(_extend(a, width, signed)), self.expression(_extend(b, width, signed))
            if signed:
                # With their sign bits inverted, signed numbers are in the order of unsigned ones.
                top = f"(word){1 << (width - 1):#x}ull"
                x, y = f"({x} ^ {top})", f"({y} ^ {top})"
            self.flag(value, f"{x} {_COMPARISONS[kind]} {y}")
        elif kind in ("$shl", "$sshl"):
            x = self.expression(_extend(a, width, bool(group.number("A_SIGNED"))))
            self.assign(word, f"shift_left({x}, {self.expression(b)})", width)
        elif kind == "$sshr":
            width = max(len(a), value.width)
            arithmetic = bool(group.number("A_SIGNED"))
            x, by = self.expression(_extend(a, width, arithmetic)), self.expression(b)
            code = f"shift_signed({x}, {WORD - width}, {by})" if arithmetic else f"shift_right({x}, {by})"
            self.assign(word, code, value.width)
        else:
            raise DeviceError(f"cell {group.names[0]!r} of type {kind} cannot be simulated natively")

    def shift_right(self, value: _Value, a: Bits, by: Bits) -> None:
        amount = self.expression(by)
        if len(a) <= WORD:
            self.assign(f"{value.name}_0", f"shift_right({self.expression(a)}, {amount})", value.width)
            return
        uses = self.uses
        for word, low, width in value.words():
            self.uses = set(uses)
            parts = self.parts(a)
            long = f"Words<{self.type}, {len(parts)}>{{{{{', '.join(parts)}}}}}"
            self.assign(word, f"extract({long}, {amount} + (word){low}, {width})", width, clean=True)

    def flag(self, value: _Value, code: str) -> None:
        """Assign a truth value, zero-extended."""
        uses = self.uses
        for word, low, width in value.words():
            self.uses = set(uses) if low == 0 else set()
            self.assign(word, f"({code})" if low == 0 else "0", width, clean=True)
        self.uses = set()

    # State

    def register(self, group: _Group, value: _Value, initial: dict[Bit, str]) -> None:
        """Add registers; clock edges rise."""
        kind, d, q = group.kind, group.port("D"), group.port("Q")
        if not group.number("CLK_POLARITY"):
            raise DeviceError("a register on the falling clock edge cannot be simulated natively")
        for word, low, width in value.words():
            start: Bits = [tuple(initial.get(bit, "0") for bit in bits) for bits in q[low : low + width]]
            self.initial.append(f"{self.type} {word} = {self.expression(start)};")
            code = self.expression(d[low : low + width])
            reset = None
            if kind.startswith("$sdff"):
                text = group.cells[0]["parameters"]["SRST_VALUE"]
                text = text[len(text) - low - width : len(text) - low].replace("x", "0")
                reset = f"(word){int(text, 2):#x}ull"
            if kind in ("$dffe", "$sdffe"):
                code = self.choose(self.condition(group, "EN"), code, word)
            if reset is not None:
                code = self.choose(self.condition(group, "SRST"), reset, code)
            if kind == "$sdffce":
                code = self.choose(self.condition(group, "EN"), f"({code})", word)
            self.updates.append(self.statement(word, f"{word} = {code};"))

    def condition(self, group: _Group, port: str) -> str:
        code = self.expression(group.port(port))
        return code if group.number(f"{port}_POLARITY") else f"!{code}"

    def memory(self, group: _Group, values: list[_Value]) -> None:
        """Add memories with their ports."""
        parameters = group.cells[0]["parameters"]
        width, size = group.number("WIDTH"), group.number("SIZE")
        address_bits, writes = group.number("ABITS"), group.number("WR_PORTS")
        words = -(-width // WORD)
        for field in ("RD_WIDE_CONTINUATION", "WR_WIDE_CONTINUATION", "OFFSET"):
            if "1" in parameters[field]:
                raise DeviceError(f"a memory with {field} cannot be simulated natively")
        name = f"m{group.name}"
        dimension = "" if self.copies == 1 else f"[{self.copies}]"
        content = [f"{{{_memory_words(cell, width, size)}}}" for cell in group.cells]
        start = content[0] if self.copies == 1 else f"{{{', '.join(content)}}}"
        self.initial.append(f"word {name}{dimension}[{size * words}] = {start};")

        def port(kind: str, index: int, bits: int) -> Bits:
            return group.port(kind)[index * bits : (index + 1) * bits]

        def read(at: str, index: int) -> str:
            self.uses.add(name)
            if self.copies > 1:
                return f"read({name}, ({self.type}){at}, {words}, {index}, {size})"
            inside = "true" if size == 1 << address_bits else f"{at} < {size}"
            return f"({inside} ? {name}[{at} * {words} + {index}] : 0)"

        writers = [
            (port("WR_ADDR", index, address_bits), port("WR_EN", index, width), port("WR_DATA", index, width))
            for index in range(writes)
        ]
        transparency = parameters["RD_TRANSPARENCY_MASK"][::-1]
        for number, value in enumerate(values):
            address = port("RD_ADDR", number, address_bits)
            clocked = parameters["RD_CLK_ENABLE"][::-1][number] == "1"
            for index, (word, low, size_) in enumerate(value.words()):
                at = self.expression(address)
                code = read(at, index)
                if not clocked:
                    self.assign(word, code, size_, clean=True)
                    continue
                for writer, (address_, enable, data) in enumerate(writers):
                    transparent = transparency[number * writes + writer : number * writes + writer + 1] == "1"
                    if not transparent and self.collisions:
                        continue
                    on = self.expression(enable[low : low + size_])
                    new = f"({code} & ~{on}) | ({self.expression(data[low : low + size_])} & {on})"
                    if not transparent:
                        new = f"{code} ^ {on}"
                    code = f"({self.choose(f'{at} == {self.expression(address_)}', f'({new})', code)})"
                self.initial.append(f"{self.type} {word} = 0;")
                enabled = self.expression(port("RD_EN", number, 1))
                self.updates.append(self.statement(word, f"{word} = {self.choose(enabled, code, word)};"))
        if writers:
            lines = []
            for address, enable, data in writers:
                at = self.expression(address)
                for index in range(words):
                    part = slice(index * WORD, min((index + 1) * WORD, width))
                    on, new = self.expression(enable[part]), self.expression(data[part])
                    lines.append(self.write(name, f"{words} + {index}", size, (on, at, new)))
            self.updates.append(self.statement(name, " ".join(lines)))

    def write(self, memory: str, place: str, size: int, signals: tuple[str, str, str]) -> str:
        """Return the code that writes to each copy of a memory: which bits, its address, and what."""
        locals_ = "".join(
            f"const {self.type} {name} = {code}; " for name, code in zip(("on", "at", "value"), signals, strict=True)
        )
        if self.copies == 1:
            body = f"if (on && at < {size}) {{ word &old = {memory}[at * {place}]; old = (old & ~on) | (value & on); }}"
        else:
            body = (
                f"if (any(on)) for (unsigned i = 0; i < {self.copies}; i++) if (on[i] && at[i] < {size}) "
                f"{{ word &old = {memory}[i][at[i] * {place}]; old = (old & ~on[i]) | (value[i] & on[i]); }}"
            )
        return f"{{ {locals_}{body} }}"

    # Order and text

    def render(self, ports: dict[str, Any]) -> str:
        updates, commits = _order_updates(self.updates)
        logic = _order_logic(self.logic, [*self.outputs, *updates])
        groups: list[list[Statement]] = []
        for phase in (logic, self.outputs, updates, commits):
            groups += [phase[low : low + FUNCTION_STATEMENTS] for low in range(0, len(phase), FUNCTION_STATEMENTS)]
        home: dict[str, int] = {statement.defines: -1 for statement in logic}
        shared: set[str] = set()
        for index, group in enumerate(groups):
            for statement in group:
                if statement.defines in home:
                    home[statement.defines] = index
                shared |= {word for word in statement.uses if word in home and home[word] != index}
        functions = []
        for index, group in enumerate(groups):
            lines = []
            for statement in group:
                local = statement.defines in home and statement.defines not in shared
                lines.append(f"  {f'const {statement.type} ' if local else ''}{statement.code}")
            functions.append(f"void Design::part{index}() {{\n" + "\n".join(lines) + "\n}\n")
        fields = [*self.initial, *(f"{each.type} {each.defines};" for each in logic if each.defines in shared)]
        fields += [f"{each.type} {each.defines};" for each in updates if each.defines.startswith("next_")]
        fields += [f"word port_{name} = 0;" for name, port in ports.items() if port["direction"] == "output"]
        for name, port in ports.items():
            if port["direction"] == "input" and name != "clk":
                fields.append(f"word &port_{name} = in_{name}_0;")
        calls = " ".join(f"part{index}();" for index in range(len(groups)))
        vectors = sorted({_lanes(len(group.cells)) for group in self.groups if len(group.cells) > 1})
        return "\n".join(
            [
                PRELUDE,
                *(VECTOR.replace("$N", str(lanes)) for lanes in vectors),
                "struct Design {",
                *(f"  {field}" for field in fields),
                *(f"  void part{index}();" for index in range(len(groups))),
                f"  void cycle() {{ {calls} }}",
                "};",
                *functions,
            ]
        )


def _lanes(copies: int) -> int:
    """Return the number of elements of a vector for so many copies."""
    return 1 << (copies - 1).bit_length()


def _number(cell: dict[str, Any], parameter: str, default: int | None = None) -> int:
    text = cell["parameters"].get(parameter)
    if text is None:
        assert default is not None
        return default
    return int(text, 2)


def _extend(bits: Bits, width: int, signed: bool) -> Bits:
    if not bits:
        return [("0",)] * width
    return bits[:width] + [bits[-1] if signed else ("0",) * len(bits[0])] * (width - len(bits))


def _memory_words(cell: dict[str, Any], width: int, size: int) -> str:
    text = cell["parameters"]["INIT"].replace("x", "0").replace("z", "0")
    if "1" not in text:
        return "0"
    text = text.rjust(width * size, "0")
    result = []
    for index in range(size):
        row = int(text[len(text) - (index + 1) * width : len(text) - index * width], 2)
        for low in range(0, width, WORD):
            result.append(f"{row >> low & ((1 << WORD) - 1):#x}ull")
    return ", ".join(result)


def _order_logic(logic: list[Statement], sinks: Iterable[Statement]) -> list[Statement]:
    """Return the logic that the sinks need, each statement after those it uses and near its first user."""
    by_name = {statement.defines: statement for statement in logic}
    done: set[str] = set()
    active: list[str] = []
    inside: set[str] = set()
    result = []
    for sink in sinks:
        stack: list[tuple[str | None, Iterator[str]]] = [(None, iter(sorted(sink.uses)))]
        while stack:
            name, rest = stack[-1]
            for word in rest:
                if word in done or word not in by_name:
                    continue
                if word in inside:
                    raise _LoopError(active[active.index(word) :])
                active.append(word)
                inside.add(word)
                stack.append((word, iter(sorted(by_name[word].uses))))
                break
            else:
                stack.pop()
                if name is not None:
                    active.pop()
                    inside.discard(name)
                    done.add(name)
                    result.append(by_name[name])
    return result


def _order_updates(updates: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Order updates so that each follows everything that reads the old value.

    Where that is impossible, because registers read each other in a circle, one of them computes its next value first
    and takes it in a commit at the end.
    """
    by_name = {statement.defines: statement for statement in updates}
    readers: dict[str, set[str]] = {name: set() for name in by_name}
    for statement in updates:
        for word in statement.uses:
            if word in readers and word != statement.defines:
                readers[word].add(statement.defines)
    waiting = {name: len(each) for name, each in readers.items()}
    free = [name for name, count in waiting.items() if count == 0]
    left = dict.fromkeys(by_name)
    result: list[Statement] = []
    commits: list[Statement] = []

    def release(name: str) -> None:
        for word in by_name[name].uses:
            if word in left and word != name:
                waiting[word] -= 1
                if waiting[word] == 0:
                    free.append(word)

    deferred: set[str] = set()
    while left:
        if free:
            name = free.pop()
            del left[name]
            if name not in deferred:
                result.append(by_name[name])
                release(name)
            continue
        name = next(each for each in left if each.startswith("v") and each not in deferred)
        deferred.add(name)
        statement = by_name[name]
        code = statement.code.replace(f"{name} =", f"next_{name} =", 1)
        result.append(Statement(f"next_{name}", statement.type, statement.uses, code))
        commits.append(Statement(name, statement.type, frozenset({f"next_{name}"}), f"{name} = next_{name};"))
        release(name)
    return result, commits
