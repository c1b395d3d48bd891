"""From a Yosys netlist to C++ that simulates it: one clock, two-state, every signal in 64-bit words.

The result is plain straight-line code: combinational cells in dependency order, then registers and memories, each
updated after everything that reads its old value. It compiles in seconds where general-purpose simulators take minutes,
because it knows that there is one clock and no unknown values.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from polyspike.spec import DeviceError

#: A bit of a netlist: the number of a net, or a constant "0", "1" or "x".
Bit = int | str
Bits = list[Bit]

WORD = 64

#: Statements a function. Compilers take more than linear time for a function's size.
FUNCTION_STATEMENTS = 500

#: What the generated code calls.
PRELUDE = """
#include <cstdint>
typedef uint64_t word;
typedef int64_t sword;
template <unsigned N> struct Words { word w[N]; };
// `width` bits of a long value from bit `at` on; zero beyond its end.
template <unsigned N> static inline word extract(const Words<N> &a, word at, unsigned width) {
  const word index = at >> 6, shift = at & 63;
  if (index >= N) return 0;
  word value = a.w[index] >> shift;
  if (shift && index + 1 < N) value |= a.w[index + 1] << (64 - shift);
  return width == 64 ? value : value & (((word)1 << width) - 1);
}
static inline word shift_left(word a, word by) { return by > 63 ? 0 : a << by; }
static inline word shift_right(word a, word by) { return by > 63 ? 0 : a >> by; }
static inline sword shift_signed(sword a, word by) { return a >> (by > 63 ? 63 : by); }
"""

_BITWISE = {"$and": "({a} & {b})", "$or": "({a} | {b})", "$xor": "({a} ^ {b})", "$xnor": "~({a} ^ {b})"}
_ARITHMETIC = {"$add": "+", "$sub": "-", "$mul": "*"}
_COMPARISONS = {"$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_SPLITTABLE = {*_BITWISE, "$not", "$pos", "$mux", "$pmux"}
_REGISTERS = {"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"}


@dataclasses.dataclass(frozen=True)
class Statement:
    """Code that computes `defines` (a word, or a memory) from the words and memories in `uses`."""

    defines: str
    uses: frozenset[str]
    code: str


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

    def __init__(self, words: set[str]) -> None:
        self.words = words


def mask(width: int) -> str:
    """Return the C++ literal of `width` ones."""
    return f"0x{(1 << width) - 1:x}u" if width <= 32 else f"0x{(1 << width) - 1:x}ull"


def emit(netlist: str, top: str, collisions: bool = True) -> str:
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
    split: set[str] = set()
    while True:
        generator = _Generator(module, split, collisions)
        try:
            return generator.generate()
        except _LoopError as loop:
            # A vector whose bits depend on each other is a loop of words, but not of bits.
            values = {word.rpartition("_")[0] for word in loop.words} & generator.splittable
            if values <= split:
                raise DeviceError("the design has a combinational loop, which cannot be simulated natively") from None
            split |= values


class _Generator:
    def __init__(self, module: dict[str, Any], split: set[str], collisions: bool) -> None:
        self.module = module
        self.collisions = collisions
        self.split = split
        self.splittable: set[str] = set()
        #: Where each net is: word, bit in the word, width of the word.
        self.place: dict[Bit, tuple[str, int, int]] = {}
        self.uses: set[str] = set()
        self.logic: list[Statement] = []
        self.updates: list[Statement] = []
        self.initial: list[str] = []
        self.outputs: list[Statement] = []
        self.names = 0

    # Values and expressions

    def value(self, bits: Bits, *, splittable: bool = False, prefix: str = "v") -> _Value:
        """Name the value that drives `bits`."""
        name = f"{prefix}{self.names}"
        self.names += 1
        if splittable:
            self.splittable.add(name)
        value = _Value(name, len(bits), 1 if name in self.split else WORD)
        for word, low, width in value.words():
            for index in range(width):
                self.place[bits[low + index]] = (word, index, width)
        return value

    def expression(self, bits: Bits) -> str:
        """Return the C++ expression of at most 64 bits, and note what it uses."""
        assert len(bits) <= WORD
        constant = 0
        terms = []
        at = 0
        while at < len(bits):
            bit = bits[at]
            if isinstance(bit, str):
                constant |= (bit == "1") << at
                at += 1
                continue
            word, low, width = self.place[bit]
            self.uses.add(word)
            size = 1
            while at + size < len(bits) and bits[at + size] == bit:
                size += 1
            if size > 1:
                term = word if width == 1 else f"({word} >> {low} & 1)"
                term = f"(-{term} & {mask(size)})"
            else:
                while at + size < len(bits) and self.place.get(bits[at + size]) == (word, low + size, width):
                    size += 1
                term = f"({word} >> {low})" if low else word
                if low + size < width:
                    term = f"({term} & {mask(size)})"
            terms.append(f"({term} << {at})" if at else term)
            at += size
        if constant or not terms:
            terms.append(f"(word){constant:#x}ull")
        return terms[0] if len(terms) == 1 else f"({' | '.join(terms)})"

    def parts(self, bits: Bits) -> list[str]:
        """Return the expressions of a value of any width, 64 bits each."""
        return [self.expression(bits[low : low + WORD]) for low in range(0, len(bits), WORD)]

    def statement(self, defines: str, code: str) -> Statement:
        """Finish a statement that uses what the expressions since the last one used."""
        done = Statement(defines, frozenset(self.uses), code)
        self.uses = set()
        return done

    def assign(self, word: str, code: str, width: int, *, clean: bool = False) -> None:
        """Add combinational logic. `clean` says that `code` has no bits above `width`."""
        if not clean and width < WORD:
            code = f"{code} & {mask(width)}"
        self.logic.append(self.statement(word, f"{word} = {code};"))

    # The whole design

    def generate(self) -> str:
        cells = [(name, cell) for name, cell in self.module["cells"].items() if cell["type"] != "$scopeinfo"]
        ports = self.module["ports"]
        for name, port in ports.items():
            if port["direction"] == "input" and name != "clk":
                value = self.value(port["bits"])
                assert value.width <= WORD
                self.initial.append(f"word {value.name}_0 = 0;")
        drives = []
        for name, cell in cells:
            kind, connections = cell["type"], cell["connections"]
            output = {"$mem_v2": "RD_DATA"}.get(kind, "Q" if kind in _REGISTERS else "Y")
            if output not in connections:
                raise DeviceError(f"cell {name!r} of type {kind} cannot be simulated natively")
            if kind == "$mem_v2":
                width = _number(cell, "WIDTH")
                data = connections["RD_DATA"]
                drives.append([self.value(data[low : low + width]) for low in range(0, len(data), width)])
            else:
                drives.append([self.value(connections[output], splittable=kind in _SPLITTABLE)])
        initial = self.initial_bits()
        for (name, cell), values in zip(cells, drives, strict=True):
            kind = cell["type"]
            if kind == "$mem_v2":
                self.memory(cell, values)
            elif kind in _REGISTERS:
                self.register(cell, values[0], initial)
            else:
                self.cell(name, cell, values[0])
        for name, port in ports.items():
            if port["direction"] == "output":
                self.outputs.append(self.statement(f"port_{name}", f"port_{name} = {self.expression(port['bits'])};"))
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

    def cell(self, name: str, cell: dict[str, Any], value: _Value) -> None:
        """Add a combinational cell."""
        kind, ports = cell["type"], cell["connections"]
        a: Bits = ports["A"]
        b: Bits = ports.get("B", [])
        signed = bool(_number(cell, "A_SIGNED", 0)) and bool(_number(cell, "B_SIGNED", 1))
        extended = {"A": _extend(a, value.width, signed), "B": _extend(b, value.width, signed)}
        if kind in _BITWISE or kind in ("$not", "$pos"):
            for word, low, width in value.words():
                x = self.expression(extended["A"][low : low + width])
                if kind in ("$not", "$pos"):
                    self.assign(word, f"~{x}" if kind == "$not" else x, width, clean=kind == "$pos")
                else:
                    y = self.expression(extended["B"][low : low + width])
                    self.assign(word, _BITWISE[kind].format(a=x, b=y), width, clean=kind != "$xnor")
        elif kind == "$mux":
            for word, low, width in value.words():
                x, y = self.expression(a[low : low + width]), self.expression(b[low : low + width])
                self.assign(word, f"{self.expression(ports['S'])} ? {y} : {x}", width, clean=True)
        elif kind == "$pmux":
            for word, low, width in value.words():
                code = self.expression(a[low : low + width])
                for index in reversed(range(len(ports["S"]))):
                    at = index * value.width + low
                    code = f"{self.expression([ports['S'][index]])} ? {self.expression(b[at : at + width])} : {code}"
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
            parity = f"__builtin_parityll({' ^ '.join(self.parts(a))})"
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
            self.narrow_cell(name, cell, value, signed)

    def narrow_cell(self, name: str, cell: dict[str, Any], value: _Value, signed: bool) -> None:
        """Add a cell that computes with numbers of at most 64 bits."""
        kind, ports = cell["type"], cell["connections"]
        a: Bits = ports["A"]
        b: Bits = ports.get("B", [])
        if kind in ("$shr", "$shift", "$shiftx") and not _number(cell, "B_SIGNED", 0):
            # The only one whose operand may be longer.
            self.shift_right(value, _extend(a, max(len(a), value.width), signed=False), b)
            return
        width = max(len(a), len(b), value.width) if kind in _COMPARISONS else value.width
        if max(width, len(a) if kind == "$sshr" else 0, len(b) if kind.startswith("$s") else 0) > WORD:
            raise DeviceError(
                f"cell {name!r} of type {kind} has {width} bits; at most {WORD} can be simulated natively"
            )
        word = f"{value.name}_0"
        if kind in _ARITHMETIC:
            x, y = self.expression(_extend(a, width, signed)), self.expression(_extend(b, width, signed))
            self.assign(word, f"({x} {_ARITHMETIC[kind]} {y})", width)
        elif kind == "$neg":
            self.assign(word, f"(-{self.expression(_extend(a, width, signed))})", width)
        elif kind in _COMPARISONS:
            width = max(len(a), len(b))
            x, y = self.expression(_extend(a, width, signed)), self.expression(_extend(b, width, signed))
            if signed:
                # Comparing the values moved to the top of a word compares their signs too.
                x, y = (f"(sword)({each} << {WORD - width})" for each in (x, y))
            self.flag(value, f"{x} {_COMPARISONS[kind]} {y}")
        elif kind in ("$shl", "$sshl"):
            x = self.expression(_extend(a, width, bool(_number(cell, "A_SIGNED"))))
            self.assign(word, f"shift_left({x}, {self.expression(b)})", width)
        elif kind == "$sshr":
            width = max(len(a), value.width)
            arithmetic = bool(_number(cell, "A_SIGNED"))
            x, by = self.expression(_extend(a, width, arithmetic)), self.expression(b)
            if arithmetic:
                unused = WORD - width
                code = f"((word)shift_signed((sword)({x} << {unused}) >> {unused}, {by}))"
            else:
                code = f"shift_right({x}, {by})"
            self.assign(word, code, value.width)
        else:
            raise DeviceError(f"cell {name!r} of type {kind} cannot be simulated natively")

    def shift_right(self, value: _Value, a: Bits, by: Bits) -> None:
        amount = self.expression(by)
        if len(a) <= WORD:
            self.assign(f"{value.name}_0", f"shift_right({self.expression(a)}, {amount})", value.width)
            return
        uses = self.uses
        for word, low, width in value.words():
            self.uses = set(uses)
            parts = self.parts(a)
            self.assign(
                word,
                f"extract(Words<{len(parts)}>{{{{{', '.join(parts)}}}}}, {amount} + {low}, {width})",
                width,
                clean=True,
            )

    def flag(self, value: _Value, code: str) -> None:
        """Assign a truth value, zero-extended."""
        uses = self.uses
        for word, low, width in value.words():
            self.uses = set(uses) if low == 0 else set()
            self.assign(word, f"({code})" if low == 0 else "0", width, clean=True)
        self.uses = set()

    # State

    def register(self, cell: dict[str, Any], value: _Value, initial: dict[Bit, str]) -> None:
        """Add a register; clock edges rise."""
        kind, ports = cell["type"], cell["connections"]
        if not _number(cell, "CLK_POLARITY"):
            raise DeviceError("a register on the falling clock edge cannot be simulated natively")
        for word, low, width in value.words():
            start = sum((initial.get(bit) == "1") << index for index, bit in enumerate(ports["Q"][low : low + width]))
            self.initial.append(f"word {word} = {start:#x}ull;")
            code = self.expression(ports["D"][low : low + width])
            reset = ""
            if kind.startswith("$sdff"):
                text = cell["parameters"]["SRST_VALUE"]
                text = text[len(text) - low - width : len(text) - low].replace("x", "0")
                reset = f"{self.condition(cell, 'SRST')} ? (word){int(text, 2):#x}ull : "
            if kind == "$sdffce":
                code = f"{self.condition(cell, 'EN')} ? ({reset}{code}) : {word}"
            elif kind in ("$dffe", "$sdffe"):
                code = f"{reset}{self.condition(cell, 'EN')} ? {code} : {word}"
            else:
                code = reset + code
            self.updates.append(self.statement(word, f"{word} = {code};"))

    def condition(self, cell: dict[str, Any], port: str) -> str:
        code = self.expression(cell["connections"][port])
        return code if _number(cell, f"{port}_POLARITY") else f"!{code}"

    def memory(self, cell: dict[str, Any], values: list[_Value]) -> None:
        """Add a memory with its ports."""
        ports = cell["connections"]
        width, size = _number(cell, "WIDTH"), _number(cell, "SIZE")
        address_bits, writes = _number(cell, "ABITS"), _number(cell, "WR_PORTS")
        words = -(-width // WORD)
        for field in ("RD_WIDE_CONTINUATION", "WR_WIDE_CONTINUATION", "OFFSET"):
            if "1" in cell["parameters"][field]:
                raise DeviceError(f"a memory with {field} cannot be simulated natively")
        name = f"m{self.names}"
        self.names += 1
        self.initial.append(f"word {name}[{size * words}] = {{{_memory_words(cell, width, size)}}};")

        def inside(address: str) -> str:
            return "true" if size == 1 << address_bits else f"{address} < {size}"

        writers = []
        for index in range(writes):
            address = ports["WR_ADDR"][index * address_bits : (index + 1) * address_bits]
            enable = ports["WR_EN"][index * width : (index + 1) * width]
            data = ports["WR_DATA"][index * width : (index + 1) * width]
            writers.append((address, enable, data))
        transparency = cell["parameters"]["RD_TRANSPARENCY_MASK"][::-1]
        for port, value in enumerate(values):
            address = ports["RD_ADDR"][port * address_bits : (port + 1) * address_bits]
            clocked = cell["parameters"]["RD_CLK_ENABLE"][::-1][port] == "1"
            for index, (word, low, size_) in enumerate(value.words()):
                at = self.expression(address)
                code = f"({inside(at)} ? {name}[{at} * {words} + {index}] : 0)"
                self.uses.add(name)
                if not clocked:
                    self.assign(word, code, size_, clean=True)
                    continue
                for writer, (address_, enable, data) in enumerate(writers):
                    transparent = transparency[port * writes + writer : port * writes + writer + 1] == "1"
                    if not transparent and self.collisions:
                        continue
                    on = self.expression(enable[low : low + size_])
                    new = f"({code} & ~{on}) | ({self.expression(data[low : low + size_])} & {on})"
                    if not transparent:
                        new = f"{code} ^ {on}"
                    code = f"({at} == {self.expression(address_)} ? ({new}) : {code})"
                self.initial.append(f"word {word} = 0;")
                enabled = self.expression([ports["RD_EN"][port]])
                self.updates.append(self.statement(word, f"{word} = {enabled} ? {code} : {word};"))
        if writers:
            lines = []
            for address, enable, data in writers:
                at = self.expression(address)
                for index in range(words):
                    part = slice(index * WORD, min((index + 1) * WORD, width))
                    on, new = self.expression(enable[part]), self.expression(data[part])
                    target = f"{name}[{at} * {words} + {index}]"
                    if len(set(map(str, enable[part]))) == 1:
                        on = self.expression([enable[part][0]])
                        lines.append(f"if ({on} && {inside(at)}) {target} = {new};")
                    else:
                        lines.append(f"if ({on} && {inside(at)}) {target} = ({target} & ~{on}) | ({new} & {on});")
            self.updates.append(self.statement(name, " ".join(lines)))

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
                lines.append(f"  {'const word ' if local else ''}{statement.code}")
            functions.append(f"void Design::part{index}() {{\n" + "\n".join(lines) + "\n}\n")
        fields = [*self.initial, *(f"word {word};" for word in sorted(shared))]
        fields += [f"word {each.defines};" for each in updates if each.defines.startswith("next_")]
        fields += [f"word port_{name} = 0;" for name, port in ports.items() if port["direction"] == "output"]
        for name, port in ports.items():
            if port["direction"] == "input" and name != "clk":
                fields.append(f"word &port_{name} = {self.place[port['bits'][0]][0]};")
        calls = " ".join(f"part{index}();" for index in range(len(groups)))
        return "\n".join(
            [
                PRELUDE,
                "struct Design {",
                *(f"  {field}" for field in fields),
                *(f"  void part{index}();" for index in range(len(groups))),
                f"  void cycle() {{ {calls} }}",
                "};",
                *functions,
            ]
        )


def _number(cell: dict[str, Any], parameter: str, default: int | None = None) -> int:
    text = cell["parameters"].get(parameter)
    if text is None:
        assert default is not None
        return default
    return int(text, 2)


def _extend(bits: Bits, width: int, signed: bool) -> Bits:
    if not bits:
        return ["0"] * width
    return bits[:width] + [bits[-1] if signed else "0"] * (width - len(bits))


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
                    raise _LoopError(set(active[active.index(word) :]))
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
        result.append(Statement(f"next_{name}", statement.uses, code))
        commits.append(Statement(name, frozenset({f"next_{name}"}), f"{name} = next_{name};"))
        release(name)
    return result, commits
