"""The link's emitted Verilog in cocotb."""

import shutil
from pathlib import Path

import pytest

from cosim.link_memory import LinkMemory
from polyspike.cosim.bench import run_bench
from polyspike.spec import TINY, DeviceError

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def test_frames(tmp_path: Path) -> None:
    assert run_bench(LinkMemory(TINY), "cosim.benches.bench_frames", directory=tmp_path) == 1


def test_link(tmp_path: Path) -> None:
    assert run_bench(LinkMemory(TINY), "cosim.benches.bench_link", directory=tmp_path) == 3


def test_failing_bench_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench_false.py").write_text(
        "import cocotb\n\n@cocotb.test()\nasync def fails(dut):\n    assert False, 'as it should'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match="as it should"):
        run_bench(LinkMemory(TINY), "bench_false", directory=tmp_path)


def test_missing_bench_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No module named 'bench_missing'"):
        run_bench(LinkMemory(TINY), "bench_missing", directory=tmp_path)
