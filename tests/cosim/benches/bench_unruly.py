"""Drivers, monitors, sinks and scoreboards on streams that break their rules (`Unruly`)."""

from typing import Any

import cocotb
import pytest

from cosim.unruly import ITEM
from polyspike.cosim.cocotb_streams import StreamDriver, StreamMonitor, StreamSink, start, wait
from polyspike.cosim.scoreboard import Scoreboard
from polyspike.cosim.streams import bursty_stalls, long_stalls, random_stalls


def fails(message: str) -> Any:
    return cocotb.xfail(raises=pytest.RaisesExc(AssertionError, match=message))


@cocotb.test()
async def echo(dut: Any) -> None:
    items = [
        {"first": low, "second": [{"low": low, "high": 3 - low % 4}, {"low": 7 - low, "high": 0}], "third": [low, -low]}
        for low in range(8)
    ]
    driver, sink = StreamDriver(dut, "i", ITEM, random_stalls(1)), StreamSink(dut, "echo", ITEM, bursty_stalls(2))
    await start(dut)
    scoreboard = Scoreboard("echo", items)
    StreamMonitor(dut, "echo", ITEM, scoreboard.receive)
    cocotb.start_soon(driver.send(items))
    await sink.take(len(items))
    assert not scoreboard.missing


@fails("stream falls in cycle [0-9]+: valid fell before the transfer")
@cocotb.test()
async def falls(dut: Any) -> None:
    StreamSink(dut, "falls", 8)
    await start(dut)
    StreamMonitor(dut, "falls", 8)
    await wait(dut, 20)


@fails("stream changes in cycle [0-9]+: the payload changed before the transfer, [0-9]+ to [0-9]+")
@cocotb.test()
async def changes(dut: Any) -> None:
    StreamSink(dut, "changes", 8)
    await start(dut)
    StreamMonitor(dut, "changes", 8)
    await wait(dut, 5)


@fails("stream waits: .* cycles without item [0-9]+ of 100, while ready was low, for which valid must not wait")
@cocotb.test()
async def waits(dut: Any) -> None:
    sink = StreamSink(dut, "waits", 8, long_stalls(3))
    await start(dut)
    await sink.take(100)


@fails("repeats: item 1 in cycle [0-9]+: 0, not 1")
@cocotb.test()
async def repeats(dut: Any) -> None:
    sink = StreamSink(dut, "repeats", 8)
    await start(dut)
    StreamMonitor(dut, "repeats", 8, Scoreboard("repeats", range(10)).receive)
    await sink.take(10)


@cocotb.skipif(cocotb.SIM_NAME.startswith("Verilator"), reason="Verilator knows no unknown values")
@fails("stream echo in cycle [0-9]+: something is unknown: valid 1, ready 0, payload .*X")
@cocotb.test()
async def unknown(dut: Any) -> None:
    StreamSink(dut, "echo", ITEM)
    dut.i__payload.value = "X" * len(dut.i__payload)
    dut.i__valid.value = 1
    await start(dut)
    StreamMonitor(dut, "echo", ITEM)
    await wait(dut, 5)
