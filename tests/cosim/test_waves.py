"""Waves and their save files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cosim import blocks
from cosim.unruly import Unruly
from polyspike.cosim.bench import run_bench
from polyspike.cosim.waves import write_save_file
from polyspike.gateware.spike_memory import SpikeMemory
from polyspike.gateware.verilog import verilog

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def names_in(vcd: Path) -> set[str]:
    """Return the signals of a wave file as GTKWave names them."""
    names, scopes = set(), []
    for words in map(str.split, vcd.read_text().splitlines()):
        if words[:1] == ["$scope"]:
            scopes.append(words[2])
        elif words[:1] == ["$upscope"]:
            scopes.pop()
        elif words[:1] == ["$var"]:
            names.add(".".join([*scopes, words[4]]) + (words[5] if words[5] != "$end" else ""))
    return names


def test_save_file_names_signals_that_exist_in_groups_of_blocks(tmp_path: Path) -> None:
    text = verilog(SpikeMemory(blocks.MEMORY), "top")
    (tmp_path / "top.v").write_text(text)
    (tmp_path / "dump.v").write_text(
        'module dump; initial begin $dumpfile("top.vcd"); $dumpvars(0, top); #1 $finish; end endmodule\n'
    )
    command = ["iverilog", "-g2012", "-s", "top", "-s", "dump", "-o", "top.vvp", "top.v", "dump.v"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run(["vvp", "-n", "top.vvp"], cwd=tmp_path, check=True, capture_output=True)
    write_save_file(text, "top", tmp_path / "top.vcd", tmp_path / "top.gtkw")
    saved = (tmp_path / "top.gtkw").read_text()
    shown = re.findall(r"^\+\{.*\} (\S+)$", saved, re.MULTILINE)
    assert len(shown) > 50 and set(shown) <= names_in(tmp_path / "top.vcd")
    assert shown[:2] == ["top.clk", "top.rst"]
    at = shown.index("top.host_read__valid")
    assert shown[at : at + 3] == ["top.host_read__valid", "top.host_read__ready", "top.host_read__payload[5:0]"]
    groups = re.findall(r"^-(\S+)$", saved, re.MULTILINE)
    assert {"top", "write_arbiter", "read_arbiter0", "read_arbiter1"} <= set(groups)
    assert "top.write_arbiter.i0__valid" in shown


def test_bench_records_waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVES", "1")
    run_bench(Unruly(), "cosim.benches.bench_unruly", directory=tmp_path)
    assert (tmp_path / "top.fst").stat().st_size > 1000
    assert (tmp_path / "top.gtkw").read_text().startswith(f'[dumpfile] "{tmp_path / "top.fst"}"')
