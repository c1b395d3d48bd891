"""What cocotb benches are made of: payloads, scoreboards, the stall matrix, and streams that break their rules."""

import itertools
import shutil
from pathlib import Path

import pytest

from cosim.unruly import ITEM, Unruly
from polyspike.cosim.bench import run_bench
from polyspike.cosim.payload import Payload
from polyspike.cosim.scoreboard import Scoreboard
from polyspike.cosim.streams import BENCH_STALLS, stall_matrix
from polyspike.spec import DeviceError


def test_payload_agrees_with_amaranth() -> None:
    item = {"first": 21, "second": [{"low": 5, "high": 2}, {"low": 0, "high": 3}], "third": [-256, 255]}
    vector = ITEM.const(item).as_value().value
    assert Payload(ITEM).width == ITEM.size
    assert Payload(ITEM).pack(item) == vector
    assert Payload(ITEM).unpack(vector) == item


def test_payload_takes_numbers_with_and_without_sign_and_fields_that_are_left_out() -> None:
    assert Payload(8).pack(-1) == Payload(8).pack(255) == 255
    assert Payload(ITEM).unpack(Payload(ITEM).pack({"third": [511]}))["third"] == [-1, 0]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"first": 32}, "field first: 32 is not an integer from -16 to 31"),
        ({"second": [{"low": -5}]}, "field second: field 0: field low: -5 is not"),
        ({"fourth": 0}, "there is no field 'fourth'; there are first, second, third"),
        ({"third": [1, 2, 3]}, "field third: there is no field 2; there are 0, 1"),
        (7, "7 has no fields"),
        ({"first": [7]}, "field first: .*7.* is not an integer"),
    ],
)
def test_payload_refuses_what_does_not_fit(item: object, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        Payload(ITEM).pack(item)


def test_scoreboard_says_what_differs() -> None:
    scoreboard = Scoreboard("gather", [{"row": 1}, 5])
    scoreboard.expect([{"row": 1, "counts": [1, {"low": 2}]}])
    scoreboard.receive({"row": 1, "slot": 0}, 10)
    scoreboard.receive(5, 11)
    assert scoreboard.missing == 1
    with pytest.raises(
        AssertionError, match=r"^gather: item 2 in cycle 12: row is 3, not 1; counts\[1\].low is 4, not 2"
    ):
        scoreboard.receive({"row": 3, "counts": [1, {"low": 4}]}, 12)
    with pytest.raises(
        AssertionError, match=r"^gather: item 3 in cycle 13 comes after the last one that was expected: 9"
    ):
        scoreboard.receive(9, 13)


def test_scoreboard_misses_fields_and_elements() -> None:
    with pytest.raises(AssertionError, match="row is missing"):
        Scoreboard("gather", [{"row": 1}]).receive(1, 0)
    with pytest.raises(AssertionError, match=r"\[1\] is missing"):
        Scoreboard("gather", [[0, 0]]).receive([0], 0)


@pytest.mark.parametrize("count", range(1, 6))
def test_stall_matrix_has_every_pair_of_patterns_on_every_two_streams(count: int) -> None:
    streams = list("abcde")[:count]
    runs = stall_matrix(streams)
    assert len(runs) == (4 if count == 1 else 16)
    for one, other in itertools.combinations(streams, 2):
        assert {(run[one], run[other]) for run in runs} == set(itertools.product(BENCH_STALLS, repeat=2))
    assert {run["a"] for run in runs} == set(BENCH_STALLS)


def test_stall_matrix_is_for_five_streams() -> None:
    with pytest.raises(DeviceError, match="6 streams, but the stall matrix is for five"):
        stall_matrix(list("abcdef"))


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")
def test_streams_that_break_their_rules(tmp_path: Path) -> None:
    assert run_bench(Unruly(), "cosim.benches.bench_unruly", directory=tmp_path) == 6
