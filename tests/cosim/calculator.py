"""A small component with the accelerator's ports that computes with every kind of operator, and with memories.

It takes blocks of 32 bytes, and answers each with `RESULT_BYTES` bytes. As many workers as wished compute side by side,
each from other bytes of the block.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

BLOCK_BYTES = 32
RESULT_BYTES = 219


class Calculator(wiring.Component):
    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    busy: Out(1)

    def __init__(self, workers: int = 1) -> None:
        super().__init__()
        self.workers = workers

    def elaborate(self, platform: object) -> Module:
        m = Module()
        block = Signal(8 * BLOCK_BYTES)
        taken = Signal(range(BLOCK_BYTES + 1))
        rest = Signal(8 * RESULT_BYTES)
        given = Signal(range(RESULT_BYTES + 1), init=RESULT_BYTES)
        wait = Signal(3)
        m.d.comb += [
            self.rx.ready.eq(taken < BLOCK_BYTES),
            self.tx.valid.eq(given < RESULT_BYTES),
            self.tx.payload.eq(rest[:8]),
            self.busy.eq(wait.any()),
        ]
        with m.If(self.rx.valid & self.rx.ready):
            m.d.sync += [block.eq(Cat(block[8:], self.rx.payload)), taken.eq(taken + 1), wait.eq(7)]
        with m.If((taken == BLOCK_BYTES) & wait.any()):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 1):
                m.d.sync += [rest.eq(self.result(m, block)), given.eq(0), taken.eq(0)]
        with m.If(self.tx.valid & self.tx.ready):
            m.d.sync += [rest.eq(rest >> 8), given.eq(given + 1)]
        return m

    def result(self, m: Module, block: Signal) -> Value:
        result: Value = Const(0)
        chain: Value = Const(0)
        for index in range(self.workers):
            m.submodules[f"worker{index}"] = worker = Worker(index)
            m.d.comb += [worker.block.eq(block.rotate_left(24 * index)), worker.chain_in.eq(chain)]
            # What each worker found counts at a place of its own.
            result ^= worker.result.rotate_left(index)
            chain = worker.chain_out
        return result


class Worker(wiring.Component):
    block: In(8 * BLOCK_BYTES)
    result: Out(8 * RESULT_BYTES)
    chain_in: In(8)
    chain_out: Out(8)

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # From worker to worker within the cycle, through a memory as well.
        m.submodules.table = table = Memory(shape=8, depth=16, init=range(7, 116, 7))
        look = table.read_port(domain="comb")
        m.d.comb += look.addr.eq(self.chain_in)
        m.d.comb += self.chain_out.eq(look.data * 3 + self.block[:8])
        found = Cat(self.chain_out, self.parts(m, self.block))
        assert 8 * (RESULT_BYTES - 1) < len(found) <= 8 * RESULT_BYTES
        m.d.comb += self.result.eq(found)
        return m

    def parts(self, m: Module, block: Value) -> Cat:
        a, b, c = block[0:16], block[16:27], block[27:33]
        x, y = block[40:56].as_signed(), block[56:67].as_signed()
        long, other = block[64:200], block[100:236]
        by = block[240:248]
        parts: list = [a + b, a - b, a * b, x + y, x - y, x * y, x + a, -x, ~a, abs(y)]
        parts += [a < b, a <= b, a > b, a >= b, x < y, x <= y, x > y, x >= y, x < a, a == b, x == y, x != y]
        parts += [a << c[:4], a >> c, x >> c, x << c[:3], (a + b) >> c[:5], a.rotate_left(3)]
        parts += [a & b, a | b, a ^ b, x & y, x | b, long & other, long | other, long ^ other, ~long]
        parts += [long.any(), long.all(), long.xor(), a.any(), block[250:256].all(), ~a.bool(), (~long).bool()]
        parts += [Mux(block[255], long, other), Mux(by[0], a, x), long == other, long[:70] == other[:70]]
        parts += [long.bit_select(by, 20), long.word_select(by[:4], 9), long >> by, block[3:60] >> by]
        case = Signal(100)
        with m.Switch(by[2:6]):
            with m.Case(0, 3, 9):
                m.d.comb += case.eq(long)
            with m.Case("11--"):
                m.d.comb += case.eq(Cat(other[5:99], a))
            with m.Case(5):
                m.d.comb += case.eq(7)
            with m.Default():
                m.d.comb += case.eq(x)
        parts.append(case)
        # A ripple through the bits of one vector: no loop, though it looks like one of words.
        ripple = Signal(12)
        for index in range(12):
            m.d.comb += ripple[index].eq(a[index] ^ (ripple[index - 1] if index else by[0]))
        parts.append(ripple)
        # Registers that read each other in a circle, one of them with an enable and an initial value.
        first, second, third = Signal(9, init=3), Signal(9, init=500), Signal(signed(60), init=-5)
        m.d.sync += [first.eq(second + by[0] + self.index), second.eq(first)]
        with m.If(by[1]):
            m.d.sync += third.eq(third + x)
        parts += [first, second, third]
        return Cat(*parts, *self.memories(m, a, b, block[100:172], by))

    def memories(self, m: Module, a: Signal, b: Signal, long: Signal, by: Signal) -> list:
        m.submodules.wide = wide = Memory(shape=72, depth=11, init=[1 << 70 | 5, 7])
        write = wide.write_port(granularity=24)
        read = wide.read_port()
        seen = wide.read_port(transparent_for=(write,))
        now = wide.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(a[:4]),
            write.data.eq(long),
            write.en.eq(by[:3]),
            read.addr.eq(b[:4]),
            read.en.eq(by[3]),
            seen.addr.eq(a[:4]),
            seen.en.eq(1),
            now.addr.eq(b[3:7]),
        ]
        m.submodules.pair = pair = Memory(shape=8, depth=16, init=range(16))
        one, two = pair.write_port(), pair.write_port()
        back = pair.read_port()
        m.d.comb += [
            one.addr.eq(a[:4]),
            one.data.eq(b),
            one.en.eq(by[4]),
            two.addr.eq(a[4:8]),
            # Reads what it wrote: memory and read port depend on each other.
            two.data.eq(back.data + 1),
            two.en.eq(a[:4] != a[4:8]),
            back.addr.eq(b[:4]),
            back.en.eq(1),
        ]
        # Where an address does not exist, what is read is not defined.
        inside = Mux(b[3:7] < 11, now.data, 0)
        return [Mux(b[:4] < 11, read.data, 0), Mux(a[:4] < 11, seen.data, 0), inside, back.data]
